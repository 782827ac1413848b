// Package cleanup removes what old builds left: deployments at services, previews,
// workspaces and cache. The parts that own these things know how; this package says
// what is old, asks one part after the other, and adds up.
//
// Each part repeats safely: what it could not remove is found again the next time. So
// may two nodes clean at once: what the other one has removed counts as removed.
package cleanup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/deploy"
)

// AllBuilds matches the branches of all builds.
var AllBuilds = deploy.Branch("*")

// Request says what is to be removed.
type Request struct {
	// OlderThan is the age from which things are removed; 0: each part has its own.
	OlderThan time.Duration
	// Branch is a pattern as of path.Match, and begins with build-: only what belongs
	// to builds with such a branch is removed. Empty: AllBuilds.
	Branch string
	DryRun bool // only count
}

// Check refuses a request that could remove what belongs to no build.
func (r Request) Check() error {
	if r.OlderThan < 0 {
		return invalid("olderThan", "it is %v: use 0 or more", r.OlderThan)
	}
	if r.Branch != "" && !strings.HasPrefix(r.Branch, deploy.Branch("")) {
		return invalid("branch", "%q could match branches that are not builds': let it begin with build-, such as build-*", clip(r.Branch))
	}
	if _, err := path.Match(r.Branch, ""); err != nil {
		return invalid("branch", "%q is not a pattern: use * for any text and ? for any character, such as build-*", clip(r.Branch))
	}
	return nil
}

// Every reports whether the request is for all builds.
func (r Request) Every() bool { return r.Branch == "" || r.Branch == AllBuilds }

// Matches reports whether the branch is one of those that were asked for.
func (r Request) Matches(branch string) bool {
	pattern := r.Branch
	if pattern == "" {
		pattern = AllBuilds
	}
	ok, _ := path.Match(pattern, branch) // Check has read it
	return ok
}

// Before returns the time before which something is old. keep is the part's own age.
func (r Request) Before(now time.Time, keep time.Duration) time.Time {
	if r.OlderThan > 0 {
		keep = r.OlderThan
	}
	return now.Add(-keep)
}

// Removed is what one part removed, or would remove.
type Removed struct {
	Count int   `json:"count"`
	Bytes int64 `json:"bytes,omitempty"` // 0: not known
}

// Add counts one more thing.
func (r *Removed) Add(bytes int64) { r.Count++; r.Bytes += bytes }

// Size returns how many bytes the files below a directory have. What cannot be read
// does not count.
func Size(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				bytes += info.Size()
			}
		}
		return nil
	})
	return bytes
}

// Part is one kind of things. Clean removes the old ones, and reports after each how
// many of how many it has looked at. It returns what it removed also with an error.
type Part struct {
	Name  string
	Clean func(ctx context.Context, r Request, progress func(done, total int)) (Removed, error)
}

// Line is one step of a clean-up. The last line of a part has its Removed.
type Line struct {
	Part    string   `json:"part"`
	Done    int      `json:"done,omitempty"`
	Total   int      `json:"total,omitempty"`
	Removed *Removed `json:"removed,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// Service cleans, once at a time.
type Service struct {
	parts []Part
	busy  sync.Mutex
}

// New makes a service.
func New(parts ...Part) *Service { return &Service{parts: parts} }

// Clean asks each part, and reports each step. What one part cannot remove does not
// keep the others from it: Clean returns the errors of all.
func (s *Service) Clean(ctx context.Context, r Request, report func(Line)) error {
	if err := r.Check(); err != nil {
		return err
	}
	if !s.busy.TryLock() {
		return buildcast.Errorf(buildcast.Conflict, "a clean-up is under way on this server: try again when it has ended")
	}
	defer s.busy.Unlock()
	var failed error
	for _, p := range s.parts {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		report(Line{Part: p.Name})
		removed, err := p.Clean(ctx, r, func(done, total int) { report(Line{Part: p.Name, Done: done, Total: total}) })
		line := Line{Part: p.Name, Removed: &removed}
		if err != nil {
			line.Error = message(err)
			failed = errors.Join(failed, fmt.Errorf("%s: %w", p.Name, err))
		}
		report(line)
	}
	return failed
}

// message is what users are told; other causes may hold the server's own paths.
func message(err error) string {
	if e, ok := errors.AsType[*buildcast.Error](err); ok {
		return e.Message
	}
	return "not everything could be removed; the server's log has the reason, and the next clean-up tries again"
}

// ParseAge reads an age: a number of days or weeks, such as 7d or 2w, or the form of
// time.ParseDuration.
func ParseAge(text string) (time.Duration, error) {
	for unit, length := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if digits, ok := strings.CutSuffix(text, unit); ok {
			n, err := strconv.Atoi(digits)
			if err == nil && n > 0 && n <= 36500 && digits[0] != '+' {
				return time.Duration(n) * length, nil
			}
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return d, nil
	}
	return 0, invalid("olderThan", "%q is not an age: use a number of days, hours or minutes, such as 7d, 36h or 90m", clip(text))
}

func clip(text string) string {
	if len(text) > 40 {
		return strings.ToValidUTF8(text[:40], "") + "…"
	}
	return text
}

func invalid(field, format string, args ...any) error {
	return buildcast.Errorf(buildcast.InvalidArgument, field+": "+format, args...).At(field)
}
