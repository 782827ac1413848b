-- With these indexes a list by status, and a claim, read only the builds that they
-- return.
--
-- An index on an expression over status would be written with each commit. An index on
-- this column is written when the phase changes; other updates stay in the page (HOT).
ALTER TABLE builds ADD COLUMN phase text GENERATED ALWAYS AS (status ->> 'status') STORED;

CREATE INDEX builds_phase ON builds (phase, created_at, id);
CREATE INDEX builds_claimable ON builds (created_at, id) WHERE plan IS NOT NULL AND finished_at IS NULL;
DROP INDEX builds_unfinished;
