// Package local is the deploy target local: it keeps each build's output
// directory and serves it from an origin of its own, build-{label}.localhost.
//
// Below its directory it has
//
//	versions/{label}.{published}.{random}/   the files of one deploy, never changed afterwards
//	sites/build-{label}                      a symbolic link to the version that is served
//
// Renaming a link over the old one makes a version the site, so a reader sees the
// old site or the new one. A version without a link was left by a crash; Run
// removes it. One Target at a time owns the directory.
package local

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/deploy"
)

// DefaultRetain is how long a preview is kept.
const DefaultRetain = 7 * 24 * time.Hour

// sweepEvery is how often Run looks for previews to remove.
const sweepEvery = time.Hour

// Config configures a Target.
type Config struct {
	// Dir holds the previews. It is created if it does not exist.
	Dir string
	// Address is how browsers reach the handler.
	Address Address
	// Retain is how long a preview is kept after its deploy; zero means DefaultRetain.
	Retain time.Duration
	// Exists reports whether the build exists. Run removes the previews of builds
	// that do not: they were deleted while this server did not run. Nil means that
	// all builds exist.
	Exists func(ctx context.Context, buildID string) (bool, error)
	// Logger receives the messages of Run; nil means slog's default.
	Logger *slog.Logger
}

// Target publishes and serves previews. Its methods may be called from many goroutines.
type Target struct {
	dir    string
	at     Address
	retain time.Duration
	exists func(ctx context.Context, buildID string) (bool, error)
	log    *slog.Logger

	// mu makes reading a link and opening a file below it one step. A version is
	// removed only after its link was changed under the write lock, so a reader that
	// has followed the link finds the whole site. No slow call holds mu.
	mu sync.RWMutex
	// making holds the versions that are not published yet; Run leaves them alone.
	making map[string]struct{}
}

// New makes a target. It touches no files.
func New(cfg Config) *Target {
	return &Target{
		dir:    cfg.Dir,
		at:     cfg.Address.orDefault(),
		retain: cmp.Or(cfg.Retain, DefaultRetain),
		log:    cmp.Or(cfg.Logger, slog.Default()),
		exists: cfg.Exists,
		making: make(map[string]struct{}),
	}
}

// URL returns the address of the build's preview once it is deployed.
func (t *Target) URL(buildID string) string {
	return t.at.of(sitePrefix + HostLabel(buildID))
}

// Deploy publishes the site as the build's preview, replaces an earlier
// one, and returns its URL. A repeated deploy, after a crash too, returns the same
// URL. It leaves out node_modules and names that begin with a dot, except
// .well-known. It calls progress at the start, and then every other second.
//
// If the site cannot be deployed, the error is a *buildcast.Error with InvalidArgument
// or TooLarge, whose message names the file. It wraps fs.ErrNotExist if it has no
// files.
func (t *Target) Deploy(ctx context.Context, site deploy.Site, progress func(deploy.Progress)) (deploy.Deployment, error) {
	if err := buildcast.ValidateBuildID(site.BuildID); err != nil {
		return deploy.Deployment{}, err
	}
	output, err := deploy.Open(ctx, site.Dir, deploy.Public())
	if err != nil {
		return deploy.Deployment{}, err
	}
	defer output.Close()
	if err := t.publish(ctx, HostLabel(site.BuildID), output, progress); err != nil {
		return deploy.Deployment{}, fmt.Errorf("deploy preview of build %s: %w", site.BuildID, err)
	}
	return deploy.Deployment{URL: t.URL(site.BuildID)}, nil
}

// publish copies the files to a new version and points the link to it. The link may
// survive a power failure, so the files must survive it too.
func (t *Target) publish(ctx context.Context, label string, output *deploy.Output, progress func(deploy.Progress)) error {
	for _, dir := range []string{t.versions(), t.sites()} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return err
		}
	}
	if err := deploy.SyncDir(t.dir); err != nil {
		return err
	}
	version := newVersion(label)
	t.reserve(version)
	defer t.release(version)
	at := filepath.Join(t.versions(), version)
	if err := output.Copy(ctx, deploy.Copy{To: at, Durable: true, Doing: "Publishing", Done: "Published"}, progress); err != nil {
		return errors.Join(err, os.RemoveAll(at))
	}
	if err := deploy.SyncDir(t.versions()); err != nil {
		return errors.Join(err, os.RemoveAll(at))
	}
	old, err := t.link(label, version)
	if err != nil {
		return errors.Join(err, os.RemoveAll(at))
	}
	if old != "" && old != version {
		t.discard(old)
	}
	return deploy.SyncDir(t.sites())
}

// link points the site to the version, and returns the version it pointed to.
func (t *Target) link(label, version string) (old string, err error) {
	// The link is created below versions, so that Run removes it after a crash.
	temporary := filepath.Join(t.versions(), version+".link")
	t.reserve(version + ".link")
	defer t.release(version + ".link")
	if err := os.Symlink(filepath.Join("..", versionsDir, version), temporary); err != nil {
		return "", err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old, _ = t.current(label)
	if err := os.Rename(temporary, t.site(label)); err != nil {
		return "", errors.Join(err, os.Remove(temporary))
	}
	return old, nil
}

// Remove removes the preview of a build that was deleted at the given time. A
// later preview stays: it belongs to a new build under the same id. A missing
// preview is not an error.
func (t *Target) Remove(buildID string, deleted time.Time) error {
	if err := buildcast.ValidateBuildID(buildID); err != nil {
		return err
	}
	deleted = deleted.Truncate(time.Millisecond) // the precision of versions' names
	earlier := func(version string) bool {
		at, ok := publishedAt(version)
		return !ok || at.Before(deleted)
	}
	if _, err := t.unlink(HostLabel(buildID), earlier); err != nil {
		return fmt.Errorf("remove preview of build %s: %w", buildID, err)
	}
	return nil
}

// unlink removes the site's link if its version is to be removed.
func (t *Target) unlink(label string, gone func(version string) bool) (bool, error) {
	version, err := t.take(label, gone)
	if err != nil || version == "" {
		return false, err
	}
	return true, os.RemoveAll(filepath.Join(t.versions(), version))
}

func (t *Target) take(label string, gone func(version string) bool) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	version, err := t.current(label)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil || !gone(version) {
		return "", err
	}
	return version, os.Remove(t.site(label))
}

// discard removes a version without a link. If that fails, Run tries again.
func (t *Target) discard(version string) {
	if err := os.RemoveAll(filepath.Join(t.versions(), version)); err != nil {
		t.log.Warn("an old preview is not removed yet", "version", version, "error", err)
	}
}

// Names below the target's directory.
const (
	versionsDir = "versions"
	sitesDir    = "sites"
	sitePrefix  = "build-"
)

func (t *Target) versions() string         { return filepath.Join(t.dir, versionsDir) }
func (t *Target) sites() string            { return filepath.Join(t.dir, sitesDir) }
func (t *Target) site(label string) string { return filepath.Join(t.sites(), sitePrefix+label) }

// current returns the version that the site's link points to. The caller holds mu.
func (t *Target) current(label string) (string, error) {
	to, err := os.Readlink(t.site(label))
	if err != nil {
		return "", err
	}
	return filepath.Base(to), nil
}

func (t *Target) reserve(version string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.making[version] = struct{}{}
}

func (t *Target) release(version string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.making, version)
}

// newVersion returns the name of a new version. The name holds the time, because
// the files' own times may change.
func newVersion(label string) string {
	return fmt.Sprintf("%s.%d.%s", label, time.Now().UnixMilli(), strings.ToLower(rand.Text()[:8]))
}

// publishedAt returns the time in the version's name.
func publishedAt(version string) (time.Time, bool) {
	parts := strings.Split(version, ".")
	if len(parts) != 3 {
		return time.Time{}, false
	}
	ms, err := strconv.ParseInt(parts[1], 10, 64)
	return time.UnixMilli(ms), err == nil
}

// hostname returns the host without its port, in lower case.
func hostname(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
