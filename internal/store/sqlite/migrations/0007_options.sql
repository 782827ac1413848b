-- Builds have options, and a build with a prompt waits for whoever plans it. No earlier
-- version has stored a prompt without a plan.
ALTER TABLE builds ADD COLUMN options TEXT; -- JSON; NULL: none

DROP INDEX builds_claimable;
CREATE INDEX builds_claimable ON builds (created_at, id) WHERE (plan IS NOT NULL OR prompt <> '') AND finished_at IS NULL;
