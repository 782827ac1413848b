-- Nothing: event_data is text, as sent. On Postgres it becomes json.
SELECT 1;
