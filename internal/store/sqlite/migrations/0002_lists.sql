-- With these indexes a list of the builds with one terminal status, and a claim, read
-- only the builds that they return. builds_finished does not have running builds, so
-- their appends, which change status each time, do not write it.
CREATE INDEX builds_finished ON builds (status ->> '$.status', created_at, id) WHERE finished_at IS NOT NULL;
CREATE INDEX builds_claimable ON builds (created_at, id) WHERE plan IS NOT NULL AND finished_at IS NULL;
