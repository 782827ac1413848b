-- Ids are never given twice: a log is cut from the front, and the row of a deleted
-- build stays as a tombstone.
ALTER TABLE builds
  ADD COLUMN first_event_id bigint NOT NULL DEFAULT 1,
  ADD COLUMN fold_start jsonb, -- the fold of what was cut off; NULL: a new fold begins at first_event_id
  ADD COLUMN deleted_at timestamptz,
  ADD COLUMN purging boolean NOT NULL DEFAULT false; -- rows of events before first_event_id may be left

CREATE INDEX builds_purging ON builds (id) WHERE purging;

-- The indexes of lists have no tombstones.
DROP INDEX builds_created;
DROP INDEX builds_project;
DROP INDEX builds_phase;
CREATE INDEX builds_created ON builds (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX builds_project ON builds (project, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX builds_phase ON builds (phase, created_at, id) WHERE deleted_at IS NULL;
