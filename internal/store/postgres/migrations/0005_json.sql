-- json keeps what was sent, byte for byte; jsonb wrote 1e9999 as 10,000 digits and
-- put names in another order. Every stored event casts: event_data::jsonb ->> 'name'.
ALTER TABLE project_build_events ALTER COLUMN event_data TYPE json USING event_data::json;
