CREATE TABLE builds (
  id               varchar(26) COLLATE "C" PRIMARY KEY,
  org              text NOT NULL DEFAULT '',
  project          text NOT NULL DEFAULT '',
  prompt           text NOT NULL DEFAULT '',
  plan             json, -- not jsonb, which refuses a \u0000 in a file; NULL: an external build
  deploy           text NOT NULL DEFAULT '',
  idempotency_key  text,
  last_event_id    bigint NOT NULL DEFAULT 0,
  status           jsonb NOT NULL, -- the fold of the log
  lease_owner      text,
  lease_until      timestamptz NOT NULL DEFAULT '-infinity',
  lease_generation bigint NOT NULL DEFAULT 0,
  created_at       timestamptz NOT NULL,
  updated_at       timestamptz NOT NULL,
  finished_at      timestamptz
) WITH (fillfactor = 70); -- a build's row is updated with each of its commits

CREATE UNIQUE INDEX builds_idempotency_key ON builds (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX builds_created ON builds (created_at, id);
CREATE INDEX builds_project ON builds (project, created_at, id);
-- No index uses status: it changes with each commit, and an index on it would be written each time.
CREATE INDEX builds_unfinished ON builds (created_at, id) WHERE finished_at IS NULL;

CREATE TABLE project_build_events (
  build_id   varchar(26) COLLATE "C" NOT NULL,
  id         bigint NOT NULL,
  event_type varchar(50) NOT NULL,
  event_data jsonb NOT NULL,
  key        text COLLATE "C",
  progress   smallint NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (build_id, id)
);

CREATE UNIQUE INDEX project_build_events_key ON project_build_events (build_id, key) WHERE key IS NOT NULL;
