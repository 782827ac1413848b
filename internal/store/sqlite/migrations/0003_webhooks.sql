CREATE TABLE webhook_endpoints (
  id         TEXT PRIMARY KEY,
  settings   TEXT NOT NULL, -- JSON: the endpoint without what is sealed
  sealed     BLOB NOT NULL, -- its secrets
  enabled    INTEGER NOT NULL,
  version    INTEGER NOT NULL,
  created_at INTEGER NOT NULL
) WITHOUT ROWID;

-- Where an endpoint stands in a build's log, while something may have to be delivered.
CREATE TABLE webhook_cursors (
  endpoint_id   TEXT NOT NULL,
  build_id      TEXT NOT NULL,
  next_event_id INTEGER NOT NULL,
  due_at        INTEGER NOT NULL,
  blocked       INTEGER NOT NULL DEFAULT 0, -- a retry has to be over first
  lease_owner   TEXT,
  lease_until   INTEGER NOT NULL DEFAULT 0,
  generation    INTEGER NOT NULL,
  PRIMARY KEY (endpoint_id, build_id)
) WITHOUT ROWID;

-- Nothing that changes with each delivery is in it.
CREATE INDEX webhook_cursors_due ON webhook_cursors (endpoint_id, due_at) WHERE blocked = 0;
CREATE INDEX webhook_cursors_build ON webhook_cursors (build_id);

CREATE TABLE worker_webhook_failures (
  endpoint_id TEXT NOT NULL,
  build_id    TEXT NOT NULL,
  event_id    INTEGER NOT NULL,
  event_type  TEXT NOT NULL,
  state       TEXT NOT NULL, -- retrying, delivered, dead
  tries       INTEGER NOT NULL,
  attempts    TEXT NOT NULL, -- JSON
  asked       INTEGER NOT NULL DEFAULT 0, -- somebody asked for it: no cursor goes back to it
  retry_at    INTEGER,
  lease_owner TEXT,
  lease_until INTEGER NOT NULL DEFAULT 0,
  created_at  INTEGER NOT NULL,
  updated_at  INTEGER NOT NULL,
  PRIMARY KEY (endpoint_id, build_id, event_id)
) WITHOUT ROWID;

CREATE INDEX worker_webhook_failures_retry ON worker_webhook_failures (endpoint_id, retry_at) WHERE state = 'retrying';
CREATE INDEX worker_webhook_failures_created ON worker_webhook_failures (created_at, build_id, event_id, endpoint_id);
CREATE INDEX worker_webhook_failures_build ON worker_webhook_failures (build_id);

CREATE TABLE webhook_counts (
  endpoint_id TEXT NOT NULL,
  bucket      INTEGER NOT NULL,
  run         TEXT NOT NULL,
  numbers     TEXT NOT NULL, -- JSON
  PRIMARY KEY (bucket, endpoint_id, run)
) WITHOUT ROWID;
