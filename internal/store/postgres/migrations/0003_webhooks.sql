CREATE TABLE webhook_endpoints (
  id         text COLLATE "C" PRIMARY KEY,
  settings   jsonb NOT NULL, -- the endpoint without what is sealed
  builds     text[] NOT NULL,
  projects   text[] NOT NULL,
  enabled    boolean NOT NULL,
  sealed     bytea NOT NULL, -- its secrets
  version    bigint NOT NULL,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL
);

-- Where an endpoint stands in a build's log, while something may have to be
-- delivered. A row is updated with each delivery: no index has a column that
-- changes with it, and the page has room for the next version.
CREATE TABLE webhook_cursors (
  endpoint_id   text COLLATE "C" NOT NULL,
  build_id      varchar(26) COLLATE "C" NOT NULL,
  next_event_id bigint NOT NULL,
  due_at        timestamptz NOT NULL,
  blocked       boolean NOT NULL DEFAULT false, -- a retry has to be over first
  lease_owner   text,
  lease_until   timestamptz NOT NULL DEFAULT '-infinity',
  generation    bigint NOT NULL,
  PRIMARY KEY (endpoint_id, build_id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE INDEX webhook_cursors_due ON webhook_cursors (endpoint_id, due_at) WHERE NOT blocked;
CREATE INDEX webhook_cursors_build ON webhook_cursors (build_id);

CREATE TABLE worker_webhook_failures (
  endpoint_id text COLLATE "C" NOT NULL,
  build_id    varchar(26) COLLATE "C" NOT NULL,
  event_id    bigint NOT NULL,
  event_type  varchar(50) NOT NULL,
  state       text NOT NULL, -- retrying, delivered, dead
  tries       integer NOT NULL,
  attempts    jsonb NOT NULL,
  asked       boolean NOT NULL DEFAULT false, -- somebody asked for it: no cursor goes back to it
  retry_at    timestamptz,
  lease_owner text,
  lease_until timestamptz NOT NULL DEFAULT '-infinity',
  created_at  timestamptz NOT NULL,
  updated_at  timestamptz NOT NULL,
  PRIMARY KEY (endpoint_id, build_id, event_id)
);

CREATE INDEX worker_webhook_failures_retry ON worker_webhook_failures (endpoint_id, retry_at) WHERE state = 'retrying';
CREATE INDEX worker_webhook_failures_created ON worker_webhook_failures (created_at, build_id, event_id, endpoint_id);
CREATE INDEX worker_webhook_failures_build ON worker_webhook_failures (build_id);

CREATE TABLE webhook_counts (
  endpoint_id text COLLATE "C" NOT NULL,
  bucket      timestamptz NOT NULL,
  run         text NOT NULL,
  numbers     jsonb NOT NULL,
  PRIMARY KEY (bucket, endpoint_id, run)
);
