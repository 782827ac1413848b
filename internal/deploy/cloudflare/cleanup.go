package cloudflare

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"time"

	"github.com/buildcast/buildcast/internal/deploy"
)

// pageSize is the most that the service takes.
const pageSize = 25

// maxPages bounds a listing: 25,000 deployments, the oldest of which are left for
// the next time.
const maxPages = 1000

// sweepEvery is how often Run removes what is too old.
const sweepEvery = 24 * time.Hour

// Run removes the deployments of builds that are older than Retain, now and then each
// day, until ctx ends. What fails is tried again the next day.
func (t *Target) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if n, err := t.sweep(ctx); err != nil && ctx.Err() == nil {
			t.config.Logger.Warn("old deployments at Cloudflare cannot be removed; the next try is in a day", "removed", n, "error", err)
		} else if n > 0 {
			t.config.Logger.Info("old deployments at Cloudflare are removed", "removed", n)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (t *Target) sweep(ctx context.Context) (removed int, err error) {
	ids, err := t.stale(ctx, old{deploy.Branch("*"), time.Now().Add(-t.config.Retain)})
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		if err := t.remove(ctx, id); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, nil
}

// old selects deployments to be removed.
type old struct {
	branch string    // a pattern as of path.Match, such as build-*
	before time.Time // made before this
}

// stale lists the ids of the deployments that are to be removed, the oldest first.
// The canonical deployment, which the project's own address shows, and those of the
// production branch are never among them.
func (t *Target) stale(ctx context.Context, which old) ([]string, error) {
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
	var ids []string
	for page := 1; page <= maxPages; page++ {
		var found []deployment
		query := fmt.Sprintf("%s/deployments?env=preview&page=%d&per_page=%d", at, page, pageSize)
		if err := t.repeat(ctx, projectRetries, func() error { return t.call(ctx, t.config.Token, "GET", query, nil, &found) }); err != nil {
			return nil, describe("the deployments were listed", err)
		}
		for _, d := range found {
			match, err := path.Match(which.branch, d.Trigger.Metadata.Branch)
			if err != nil {
				return nil, fmt.Errorf("branch pattern %q: %w", which.branch, err)
			}
			canonical := project.Canonical != nil && project.Canonical.ID == d.ID
			// Deployments that are made meanwhile shift the pages: one may be seen twice.
			if match && !canonical && !seen[d.ID] && d.Trigger.Metadata.Branch != t.config.ProductionBranch && d.CreatedOn.Before(which.before) {
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
