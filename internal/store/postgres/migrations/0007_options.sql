-- Builds have options, and a build with a prompt waits for whoever plans it. No earlier
-- version has stored a prompt without a plan. A node of an earlier version that still
-- runs uses the index too: its condition, plan IS NOT NULL, implies this one.
ALTER TABLE builds ADD COLUMN options json; -- NULL: none

DROP INDEX builds_claimable;
CREATE INDEX builds_claimable ON builds (created_at, id) WHERE (plan IS NOT NULL OR prompt <> '') AND finished_at IS NULL;
