-- Ids are never given twice: a log is cut from the front, and the row of a deleted
-- build stays as a tombstone.
ALTER TABLE builds ADD COLUMN first_event_id INTEGER NOT NULL DEFAULT 1;
ALTER TABLE builds ADD COLUMN fold_start TEXT; -- JSON: the fold of what was cut off; NULL: a new fold begins at first_event_id
ALTER TABLE builds ADD COLUMN deleted_at INTEGER;
ALTER TABLE builds ADD COLUMN purging INTEGER NOT NULL DEFAULT 0; -- rows of events before first_event_id may be left

CREATE INDEX builds_purging ON builds (id) WHERE purging = 1;

-- The indexes of lists have no tombstones.
DROP INDEX builds_created;
DROP INDEX builds_project;
DROP INDEX builds_unfinished;
DROP INDEX builds_finished;
CREATE INDEX builds_created ON builds (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX builds_project ON builds (project, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX builds_unfinished ON builds (created_at, id) WHERE finished_at IS NULL AND deleted_at IS NULL;
CREATE INDEX builds_finished ON builds (status ->> '$.status', created_at, id) WHERE finished_at IS NOT NULL AND deleted_at IS NULL;
