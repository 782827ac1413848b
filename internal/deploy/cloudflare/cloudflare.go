package cloudflare

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/deploy"
)

// DefaultBaseURL is the address of Cloudflare's API.
const DefaultBaseURL = "https://api.cloudflare.com/client/v4"

// Bounds of a deployment.
const (
	maxMessage        = 384 // bytes of a commit message
	projectRetries    = 3
	deploymentRetries = 2
	pollLongest       = 16 // paces between two looks at a deployment
	lookBack          = 2  // pages of deployments that are searched for that of an earlier attempt
)

// Config is what a Target is made of. Token, AccountID and Project are required.
type Config struct {
	BaseURL          string // default: DefaultBaseURL
	Token            string
	AccountID        string
	Project          string        // made if it is absent
	ProductionBranch string        // default: main
	Retain           time.Duration // how long a build's deployment is kept; default 7 days
	Client           *http.Client
	RequestTimeout   time.Duration // of one request; default 5m
	DeployTimeout    time.Duration // how long the last stage may take; default 15m
	Pace             time.Duration // the first pause between attempts; default 1s
	Logger           *slog.Logger
}

// Target deploys to one project. Its methods may be called from many goroutines.
type Target struct{ config Config }

// New makes a target. It calls nobody.
func New(c Config) *Target {
	c.BaseURL = strings.TrimSuffix(cmp.Or(c.BaseURL, DefaultBaseURL), "/")
	c.ProductionBranch = cmp.Or(c.ProductionBranch, "main")
	c.Retain = cmp.Or(c.Retain, 7*24*time.Hour)
	c.Client = cmp.Or(c.Client, http.DefaultClient)
	c.RequestTimeout = cmp.Or(c.RequestTimeout, 5*time.Minute)
	c.DeployTimeout = cmp.Or(c.DeployTimeout, 15*time.Minute)
	c.Pace = cmp.Or(c.Pace, time.Second)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	return &Target{c}
}

// Deploy uploads the site as a deployment of the build's branch, or of the production
// branch. A deployment that an earlier attempt made of the same files is taken over. What is wrong with the directory is an *buildcast.Error with
// InvalidArgument or TooLarge; what the service refuses has its own words and code in
// the message.
func (t *Target) Deploy(ctx context.Context, site deploy.Site, progress func(deploy.Progress)) (deploy.Deployment, error) {
	s, err := openSite(ctx, site.Dir)
	if err != nil {
		return deploy.Deployment{}, err
	}
	defer s.Close()
	progress(deploy.Progress{Message: "Reading the site"})
	if err := s.read(ctx); err != nil {
		return deploy.Deployment{}, err
	}
	progress(deploy.Progress{Percent: 5, Message: "Asking Cloudflare for the project"})
	if err := t.ensureProject(ctx); err != nil {
		return deploy.Deployment{}, err
	}
	token := &uploadToken{target: t, project: t.config.Project}
	if err := t.upload(ctx, token, s, progress); err != nil {
		return deploy.Deployment{}, err
	}
	progress(deploy.Progress{Percent: 85, Message: "Creating the deployment"})
	branch := deploy.Branch(site.BuildID)
	if site.Production {
		branch = t.config.ProductionBranch
	}
	d, err := t.deployment(ctx, s, branch, site.BuildID)
	if err != nil {
		return deploy.Deployment{}, err
	}
	progress(deploy.Progress{Percent: 90, Message: "Waiting for Cloudflare"})
	return t.await(ctx, d)
}

func (t *Target) projectsPath() string {
	return "/accounts/" + url.PathEscape(t.config.AccountID) + "/pages/projects"
}

func (t *Target) projectPath(project string) string {
	return t.projectsPath() + "/" + url.PathEscape(project)
}

// ensureProject makes the project if it is absent. Two builds may do so at the same
// time: the loser finds it made.
func (t *Target) ensureProject(ctx context.Context) error {
	look := func() error {
		return t.repeat(ctx, projectRetries, func() error {
			return t.call(ctx, t.config.Token, "GET", t.projectPath(t.config.Project), nil, nil)
		})
	}
	err := look()
	if failure, ok := errors.AsType[*apiError](err); !ok || failure.code != codeNoProject {
		return describe("the project was looked up", err)
	}
	b, err := jsonBody(map[string]string{"name": t.config.Project, "production_branch": t.config.ProductionBranch})
	if err != nil {
		return err
	}
	err = t.repeat(ctx, projectRetries, func() error {
		return t.call(ctx, t.config.Token, "POST", t.projectsPath(), b, nil)
	})
	if err != nil && look() == nil {
		return nil
	}
	return describe("the project was made", err)
}

// deployment is what the service says of one.
type deployment struct {
	ID          string `json:"id"`
	URL         string `json:"url"`
	LatestStage struct {
		Name   string `json:"name"`
		Status string `json:"status"`
	} `json:"latest_stage"`
	CreatedOn time.Time `json:"created_on"`
	Trigger   struct {
		Metadata struct {
			Branch     string `json:"branch"`
			CommitHash string `json:"commit_hash"`
		} `json:"metadata"`
	} `json:"deployment_trigger"`
}

// deployment finds the one that an earlier attempt made of this build and these files,
// before it was cut off, or makes it.
func (t *Target) deployment(ctx context.Context, s *site, branch, buildID string) (deployment, error) {
	commit := s.commit(buildID)
	for page := 1; page <= lookBack; page++ {
		var found []deployment
		query := fmt.Sprintf("%s/deployments?page=%d&per_page=%d", t.projectPath(t.config.Project), page, pageSize)
		if err := t.repeat(ctx, projectRetries, func() error { return t.call(ctx, t.config.Token, "GET", query, nil, &found) }); err != nil {
			return deployment{}, describe("earlier deployments were looked up", err)
		}
		for _, d := range found {
			if d.Trigger.Metadata.Branch == branch && d.Trigger.Metadata.CommitHash == commit && d.LatestStage.Status != "failure" && d.LatestStage.Status != "canceled" {
				return d, nil
			}
		}
		if len(found) < pageSize {
			break
		}
	}
	return t.create(ctx, s, branch, commit, buildID)
}

// commit names the build and its files, in the form of a commit's hash.
func (s *site) commit(buildID string) string {
	sum := sha256.New()
	fmt.Fprintf(sum, "%d:%s", len(buildID), buildID)
	for _, a := range s.assets { // in the order of their paths
		fmt.Fprintf(sum, "%d:%s%s", len(a.path), a.path, a.hash)
	}
	return hex.EncodeToString(sum.Sum(nil))[:40]
}

func (t *Target) create(ctx context.Context, s *site, branch, commit, buildID string) (d deployment, err error) {
	b, err := s.deploymentBody(branch, commit, cut("buildcast build "+buildID, maxMessage))
	if err != nil {
		return d, err
	}
	for n := 0; ; n++ {
		err = t.call(ctx, t.config.Token, "POST", t.projectPath(t.config.Project)+"/deployments", b, &d)
		// Only this code is safe to repeat: after any other failure the deployment may have been made.
		failure, ok := errors.AsType[*apiError](err)
		if !ok || failure.code != codeTryAgain && failure.status != http.StatusTooManyRequests || n >= deploymentRetries {
			return d, describe("the deployment was made", err)
		}
		if err := pause(ctx, max(t.config.Pace<<n, failure.retryAfter)); err != nil {
			return d, err
		}
	}
}

// deploymentBody is the multipart form of a new deployment.
func (s *site) deploymentBody(branch, commit, message string) (*body, error) {
	manifest, err := json.Marshal(s.manifest())
	if err != nil {
		return nil, err
	}
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for _, field := range [][2]string{
		{"manifest", string(manifest)}, {"branch", branch}, {"commit_message", message}, {"commit_hash", commit}, {"commit_dirty", "false"},
	} {
		if err := w.WriteField(field[0], field[1]); err != nil {
			return nil, err
		}
	}
	for _, name := range s.special {
		if err := s.attach(w, name); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return &body{w.FormDataContentType(), int64(form.Len()), func() io.ReadCloser { return io.NopCloser(bytes.NewReader(form.Bytes())) }}, nil
}

func (s *site) attach(w *multipart.Writer, name string) error {
	f, err := deploy.OpenRegular(s.Root, name)
	if err != nil {
		return err
	}
	defer f.Close()
	part, err := w.CreateFormFile(name, name)
	if err != nil {
		return err
	}
	_, err = io.Copy(part, io.LimitReader(f, maxFileSize))
	return err
}

// await looks at the deployment until its last stage has ended.
func (t *Target) await(ctx context.Context, d deployment) (deploy.Deployment, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, t.config.DeployTimeout,
		buildcast.Errorf(buildcast.Unreachable, "Cloudflare has not finished deployment %s within %v", d.ID, t.config.DeployTimeout))
	defer cancel()
	at := t.projectPath(t.config.Project) + "/deployments/" + url.PathEscape(d.ID)
	for wait := 1; ; wait = min(2*wait, pollLongest) {
		err := t.repeat(ctx, uploadRetries, func() error { return t.call(ctx, t.config.Token, "GET", at, nil, &d) })
		switch {
		case err != nil && ctx.Err() != nil:
			return deploy.Deployment{}, context.Cause(ctx)
		case err != nil:
			return deploy.Deployment{}, describe("the deployment was watched", err)
		case d.LatestStage.Status == "failure" || d.LatestStage.Status == "canceled":
			return deploy.Deployment{}, buildcast.Errorf(buildcast.InvalidArgument, "Cloudflare's stage %s ended with %s: %s", d.LatestStage.Name, d.LatestStage.Status, t.lastLine(ctx, at))
		case d.LatestStage.Name == "deploy" && d.LatestStage.Status == "success":
			return deploy.Deployment{URL: d.URL, Ref: d.ID}, nil
		}
		if err := pause(ctx, time.Duration(wait)*t.config.Pace); err != nil {
			return deploy.Deployment{}, err
		}
	}
}

// lastLine is the end of the deployment's log: the cause, most of the time.
func (t *Target) lastLine(ctx context.Context, at string) string {
	var history struct {
		Data []struct {
			Line string `json:"line"`
		} `json:"data"`
	}
	if err := t.call(ctx, t.config.Token, "GET", at+"/history/logs?size=10000000", nil, &history); err != nil {
		return "its log cannot be read"
	}
	for _, entry := range slices.Backward(history.Data) {
		if line := strings.TrimSpace(entry.Line); line != "" {
			return cut(line, maxErrorText)
		}
	}
	return "its log is empty"
}
