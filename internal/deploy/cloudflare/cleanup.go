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
)

// pageSize is the most that the service takes.
const pageSize = 25

// maxPages bounds a listing: 25,000 deployments, the oldest of which are left for
// the next time.
const maxPages = 1000

// Old selects deployments to be removed.
type Old struct {
	Branch string    // a pattern as of path.Match, such as build-*
	Before time.Time // made before this
}

// Stale lists the ids of the deployments that are to be removed, the oldest first.
// The canonical deployment, which the project's own address shows, and those of the
// production branch are never among them.
func (t *Target) Stale(ctx context.Context, old Old) ([]string, error) {
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
			match, err := path.Match(old.Branch, d.Trigger.Metadata.Branch)
			if err != nil {
				return nil, fmt.Errorf("branch pattern %q: %w", old.Branch, err)
			}
			canonical := project.Canonical != nil && project.Canonical.ID == d.ID
			// Deployments that are made meanwhile shift the pages: one may be seen twice.
			if match && !canonical && !seen[d.ID] && d.Trigger.Metadata.Branch != t.config.ProductionBranch && d.CreatedOn.Before(old.Before) {
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

// Remove removes one deployment. It is not an error if it is gone.
func (t *Target) Remove(ctx context.Context, ref string) error {
	at := t.projectPath(t.config.Project) + "/deployments/" + url.PathEscape(ref) + "?force=true" // without it, one with an alias stays
	err := t.repeat(ctx, projectRetries, func() error { return t.call(ctx, t.config.Token, "DELETE", at, nil, nil) })
	if failure, ok := errors.AsType[*apiError](err); ok && failure.status == http.StatusNotFound {
		return nil
	}
	return describe("a deployment was removed", err)
}
