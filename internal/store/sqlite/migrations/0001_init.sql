CREATE TABLE builds (
  id               TEXT PRIMARY KEY,
  org              TEXT NOT NULL DEFAULT '',
  project          TEXT NOT NULL DEFAULT '',
  prompt           TEXT NOT NULL DEFAULT '',
  plan             TEXT, -- JSON; NULL: an external build
  deploy           TEXT NOT NULL DEFAULT '',
  idempotency_key  TEXT,
  last_event_id    INTEGER NOT NULL DEFAULT 0,
  status           TEXT NOT NULL, -- JSON: the fold of the log
  lease_owner      TEXT,
  lease_until      INTEGER NOT NULL DEFAULT 0,
  lease_generation INTEGER NOT NULL DEFAULT 0,
  created_at       INTEGER NOT NULL, -- all times are unix milliseconds
  updated_at       INTEGER NOT NULL,
  finished_at      INTEGER
) WITHOUT ROWID;

CREATE UNIQUE INDEX builds_idempotency_key ON builds (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX builds_created ON builds (created_at, id);
CREATE INDEX builds_project ON builds (project, created_at, id);
-- No index uses status: it changes with each commit, and an index on it would be written each time.
CREATE INDEX builds_unfinished ON builds (created_at, id) WHERE finished_at IS NULL;

CREATE TABLE project_build_events (
  build_id   TEXT NOT NULL,
  id         INTEGER NOT NULL,
  event_type TEXT NOT NULL,
  event_data TEXT NOT NULL, -- JSON
  key        TEXT,
  progress   INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (build_id, id)
) WITHOUT ROWID;

CREATE UNIQUE INDEX project_build_events_key ON project_build_events (build_id, key) WHERE key IS NOT NULL;
