-- A list of builds that ended in one way, and a claim, read no builds that they do
-- not want. A build that runs is in builds_finished not yet: its appends, which
-- change status each time, do not write this index.
CREATE INDEX builds_finished ON builds (status ->> '$.status', created_at, id) WHERE finished_at IS NOT NULL;
CREATE INDEX builds_claimable ON builds (created_at, id) WHERE plan IS NOT NULL AND finished_at IS NULL;
