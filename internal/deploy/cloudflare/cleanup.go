package cloudflare

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/buildcast/buildcast/internal/cleanup"
)

// pageSize is the most that the service takes.
const pageSize = 25

// maxPages bounds a listing: 25,000 deployments, the oldest of which are left for
// the next time.
const maxPages = 1000

// sweepEvery is how often Run removes what is too old.
const sweepEvery = 24 * time.Hour

// maxFailures is how many deployments in a row may fail to be removed before the rest
// is left for the next time.
const maxFailures = 5

// Run removes the deployments of builds that are older than Retain, now and then each
// day, until ctx ends. What fails is tried again the next day. Several nodes may do so
// at once: what another one has removed is not an error.
func (t *Target) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if removed, err := t.Clean(ctx, cleanup.Request{}, func(int, int) {}); err != nil && ctx.Err() == nil {
			t.config.Logger.Warn("old deployments at Cloudflare cannot be removed; the next try is in a day", "removed", removed.Count, "error", err)
		} else if removed.Count > 0 {
			t.config.Logger.Info("old deployments at Cloudflare are removed", "removed", removed.Count)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Clean removes the old deployments of builds, the oldest first; see cleanup.Part.
func (t *Target) Clean(ctx context.Context, r cleanup.Request, progress func(done, total int)) (removed cleanup.Removed, err error) {
	ids, err := t.stale(ctx, r)
	if err != nil || r.DryRun {
		return cleanup.Removed{Count: len(ids)}, err
	}
	failures := 0
	for i, id := range ids {
		failed := t.remove(ctx, id)
		switch {
		case failed == nil:
			removed.Add(0)
			failures = 0
		case ctx.Err() != nil:
			return removed, context.Cause(ctx)
		default: // one that cannot be removed does not keep the others
			if err == nil {
				err = failed
			}
			if failures++; failures == maxFailures {
				return removed, err
			}
		}
		progress(i+1, len(ids))
	}
	return removed, err
}

// stale lists the ids of the deployments that are to be removed, the oldest first.
// The canonical deployment, which the project's own address shows, and those of the
// production branch are never among them.
func (t *Target) stale(ctx context.Context, r cleanup.Request) ([]string, error) {
	var project struct {
		Canonical *deployment `json:"canonical_deployment"`
	}
	at := t.projectPath(t.config.Project)
	err := t.repeat(ctx, projectRetries, func() error { return t.call(ctx, t.config.Token, "GET", at, nil, &project) })
	if failure, ok := errors.AsType[*apiError](err); ok && failure.code == codeNoProject {
		return nil, nil
	}
	if err != nil {
		return nil, describe("the project was looked up", err)
	}
	seen := map[string]bool{}
	before := r.Before(time.Now(), t.config.Retain)
	var ids []string
	for page := 1; page <= maxPages; page++ {
		var found []deployment
		query := fmt.Sprintf("%s/deployments?env=preview&page=%d&per_page=%d", at, page, pageSize)
		if err := t.repeat(ctx, projectRetries, func() error { return t.call(ctx, t.config.Token, "GET", query, nil, &found) }); err != nil {
			return nil, describe("the deployments were listed", err)
		}
		for _, d := range found {
			canonical := project.Canonical != nil && project.Canonical.ID == d.ID
			// Deployments that are made meanwhile shift the pages: one may be seen twice.
			branch := d.Trigger.Metadata.Branch
			if r.Matches(branch) && !canonical && !seen[d.ID] && branch != t.config.ProductionBranch && d.CreatedOn.Before(before) {
				seen[d.ID] = true
				ids = append(ids, d.ID)
			}
		}
		if len(found) < pageSize {
			break
		}
	}
	slices.Reverse(ids)
	return ids, nil
}

// remove removes one deployment. It is not an error if it is gone.
func (t *Target) remove(ctx context.Context, ref string) error {
	at := t.projectPath(t.config.Project) + "/deployments/" + url.PathEscape(ref) + "?force=true" // without it, one with an alias stays
	err := t.repeat(ctx, projectRetries, func() error { return t.call(ctx, t.config.Token, "DELETE", at, nil, nil) })
	if failure, ok := errors.AsType[*apiError](err); ok && failure.status == http.StatusNotFound {
		return nil
	}
	return describe("a deployment was removed", err)
}
