package httpapi

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi/body"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
	"github.com/buildcast/buildcast/internal/httpapi/query"
	"github.com/buildcast/buildcast/internal/store"
)

const (
	// cancelKey makes cancelling idempotent: a build is cancelled once.
	cancelKey = buildcast.ReservedKeyPrefix + buildcast.BuildCancelled
)

var (
	statusParam  = query.String{Name: "status", Enum: phases(), Doc: "Only builds that stand here."}
	projectParam = query.String{Name: "project", Max: buildcast.MaxProject, Doc: "Only builds of this project."}
	textParam    = query.String{Name: "q", Max: 200, Doc: "Only builds with this text in their id, project or message, in upper or lower case."}
	buildsParam  = query.Int{Name: "limit", Min: 1, Max: 200, Default: 50, Doc: "How many builds to answer with at most."}
	beforeParam  = query.String{Name: "before", Max: 200, Doc: "The next of the page before."}
)

func phases() []string {
	return []string{
		string(buildcast.Queued), string(buildcast.Planning), string(buildcast.Executing), string(buildcast.Deploying),
		string(buildcast.Completed), string(buildcast.Failed), string(buildcast.Cancelled),
	}
}

// newBuild is the body of a build's creation.
type newBuild struct {
	ID      string          `json:"id,omitempty" doc:"1 to 26 of A-Z a-z 0-9 _ -; buildcast makes a ULID where it is absent" pattern:"^[A-Za-z0-9_-]{1,26}$"`
	Project string          `json:"project,omitempty" maxLength:"200"`
	Prompt  string          `json:"prompt,omitempty" doc:"What to build, for a planner to plan. Not together with plan."`
	Plan    *buildcast.Plan `json:"plan,omitempty" doc:"What buildcast is to run. Without one, others run the build and report its events."`
	Deploy  string          `json:"deploy,omitempty" enum:"local,cloudflare,command,none" doc:"The target; absent means the plan's own"`
	Planner string          `json:"planner,omitempty" doc:"Who is asked with the prompt, and with those of tasks: one of the planners of GET /api/server; absent means its defaultPlanner"`
	NoCache bool            `json:"noCache,omitempty" doc:"Run everything, and read nothing from the cache"`
	_       struct{}        `additionalProperties:"false"`
}

func (b *newBuild) validate() error {
	if b.ID != "" {
		if err := buildcast.ValidateBuildID(b.ID); err != nil {
			return problem.At(err, "id")
		}
		if b.ID == buildcast.OperationsBuild {
			return reserved("id")
		}
	}
	if err := query.ValidateText(b.Project, buildcast.MaxProject, "project"); err != nil {
		return err
	}
	if err := buildcast.ValidateDeploy(b.Deploy); err != nil {
		return err
	}
	switch {
	case b.Plan != nil && b.Prompt != "":
		return buildcast.Errorf(buildcast.InvalidArgument, "both prompt and plan are there: send the plan to run it, or the prompt to have one made").At("prompt")
	case b.Prompt != "":
		return buildcast.ValidatePrompt(b.Prompt)
	case b.Plan != nil:
		return validatePlan(b.Plan)
	case b.Planner != "":
		return buildcast.Errorf(buildcast.InvalidArgument, "planner is set, and there is nothing to plan: send a prompt, or leave planner out").At("planner")
	case b.NoCache:
		return buildcast.Errorf(buildcast.InvalidArgument, "noCache is set, and there is nothing to run: send a prompt or a plan, or leave noCache out").At("noCache")
	}
	return nil
}

// checkPlanner refuses a build that asks a planner which the server does not have.
func (a *api) checkPlanner(b *newBuild) error {
	asked := buildcast.Build{Prompt: b.Prompt, Plan: b.Plan}
	if asked.Planned() {
		return a.Planners.Check(b.Planner)
	}
	if names := a.Planners.Names(); b.Planner != "" && !slices.Contains(names, b.Planner) {
		return buildcast.Errorf(buildcast.InvalidArgument, "planner %s is not set up on this server: use one of %s", problem.Quote(b.Planner), strings.Join(names, ", ")).At("planner")
	}
	return nil
}

// validatePlan refuses files that are to be read from the server's own disk,
// and names fields by their path in the body.
func validatePlan(p *buildcast.Plan) error {
	if err := p.Validate(); err != nil {
		return problem.At(err, "plan."+problem.FieldOf(err))
	}
	for i, t := range p.Tasks {
		for name, f := range t.Files {
			if f.From != "" {
				return buildcast.Errorf(buildcast.InvalidArgument, "a server reads no files of its own for a plan: send the content of %s, or use `buildcast build`, which does", problem.Quote(name)).
					At(fmt.Sprintf("plan.tasks[%d].files", i))
			}
		}
	}
	return nil
}

// createBuild queues a build that has a plan or a prompt, and records one that has
// neither.
func (a *api) createBuild(w http.ResponseWriter, r *http.Request) error {
	key := r.Header.Get("Idempotency-Key")
	if err := query.ValidateText(key, buildcast.MaxEventKey, "Idempotency-Key"); err != nil {
		return err
	}
	var asked newBuild
	if err := a.bodies.Decode(w, r, &asked); err != nil {
		return err
	}
	if err := asked.validate(); err != nil {
		return err
	}
	if err := a.checkPlanner(&asked); err != nil {
		return err
	}
	if asked.ID == "" {
		asked.ID = ulid.Make().String()
	}
	return a.create(w, r, store.NewBuild{
		ID: asked.ID, Project: asked.Project, Prompt: asked.Prompt, Plan: asked.Plan, Deploy: asked.Deploy,
		Options:        buildcast.Options{Planner: asked.Planner, NoCache: asked.NoCache},
		IdempotencyKey: key,
	})
}

// create stores the build and answers with it, or with the one that the same request
// has made.
func (a *api) create(w http.ResponseWriter, r *http.Request, b store.NewBuild) error {
	build, created, err := a.Log.Create(r.Context(), b)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	w.Header().Set("Location", a.Prefix+"/api/builds/"+build.ID)
	return body.SendJSON(w, status, build)
}

func (a *api) getBuild(w http.ResponseWriter, r *http.Request) error {
	id, err := a.buildID(r)
	if err != nil {
		return err
	}
	build, err := a.Builds.GetBuild(r.Context(), id)
	if err != nil {
		return err
	}
	return sendTagged(w, r, build.Status, build)
}

func (a *api) getStatus(w http.ResponseWriter, r *http.Request) error {
	status, err := a.findStatus(r)
	if err != nil {
		return err
	}
	return sendTagged(w, r, status, status)
}

func (a *api) findStatus(r *http.Request) (buildcast.Status, error) {
	id, err := a.buildID(r)
	if err != nil {
		return buildcast.Status{}, err
	}
	found, err := a.Events.Statuses(r.Context(), []string{id})
	if err != nil {
		return buildcast.Status{}, err
	}
	status, ok := found[id]
	if !ok {
		return status, store.NoBuild(id)
	}
	return status, nil
}

// sendTagged sends what changes only when the build's log grows.
func sendTagged(w http.ResponseWriter, r *http.Request, s buildcast.Status, v any) error {
	w.Header().Set("Cache-Control", "private, no-cache")
	etag := `W/"` + s.BuildID + "." + strconv.FormatInt(s.LastEventID, 36) + "." + strconv.FormatInt(s.CreatedAt.Std().UnixMilli(), 36) + `"`
	if notModified(w, r, etag) {
		return nil
	}
	return body.SendJSON(w, http.StatusOK, v)
}

// builds is one page of the list of builds.
type builds struct {
	Builds []buildcast.Status `json:"builds" doc:"The newest first"`
	Next   string             `json:"next" doc:"Send it as before to get the next page; empty on the last one"`
}

func (a *api) listBuilds(w http.ResponseWriter, r *http.Request) error {
	q, err := query.Of(r)
	if err != nil {
		return err
	}
	limit, err := buildsParam.Read(q)
	if err != nil {
		return err
	}
	phase, err := statusParam.Read(q)
	if err != nil {
		return err
	}
	f := store.Filter{Phase: buildcast.Phase(phase), Limit: int(limit)}
	if f.Project, err = projectParam.Read(q); err != nil {
		return err
	}
	if f.Text, err = textParam.Read(q); err != nil {
		return err
	}
	if f.Before, err = beforeParam.Read(q); err != nil {
		return err
	}
	found, err := a.Builds.ListBuilds(r.Context(), f)
	if err != nil {
		return err
	}
	shown := make([]buildcast.Status, 0, len(found.Statuses)) // [] and not null
	for _, s := range found.Statuses {
		if s.BuildID != buildcast.OperationsBuild { // which is no build of anybody's
			shown = append(shown, s)
		}
	}
	return sendHashed(w, r, builds{shown, found.Next})
}

// sendHashed sends what may change for many reasons: its tag is its content's.
func sendHashed(w http.ResponseWriter, r *http.Request, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "private, no-cache")
	sum := sha256.Sum256(text)
	if notModified(w, r, fmt.Sprintf(`W/"%x"`, sum[:12])) {
		return nil
	}
	body.Send(w, http.StatusOK, body.JSON, text)
	return nil
}

// cancelBuild appends the event that cancels the build; who runs it sees the
// event in the log and stops. A finished build stays as it is.
func (a *api) cancelBuild(w http.ResponseWriter, r *http.Request) error {
	status, err := a.findStatus(r)
	if err != nil {
		return err
	}
	if status.Phase.Terminal() {
		return body.SendJSON(w, http.StatusOK, status)
	}
	stored, err := a.Log.Append(r.Context(), status.BuildID, 0, buildcast.NewEvent{Type: buildcast.BuildCancelled, Key: cancelKey})
	if err != nil {
		return err
	}
	return body.SendJSON(w, http.StatusAccepted, stored.Status)
}

func (a *api) deleteBuild(w http.ResponseWriter, r *http.Request) error {
	id, err := a.buildID(r)
	if err != nil {
		return err
	}
	if err := a.Log.Delete(r.Context(), id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// buildID is the valid build id in the request's path, of a build with which
// the request may do what it asks for.
func (a *api) buildID(r *http.Request) (string, error) {
	id := r.PathValue("id")
	if err := buildcast.ValidateBuildID(id); err != nil {
		return "", err
	}
	return id, a.mayUse(r, id)
}

// mayUse keeps buildcast's own log from being written, and from being read by
// everyone: it names the receivers of webhooks.
func (a *api) mayUse(r *http.Request, id string) error {
	if id != buildcast.OperationsBuild {
		return nil
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return reserved("buildId")
	}
	return a.checkPrivate(r)
}

func reserved(field string) error {
	return buildcast.Errorf(buildcast.PermissionDenied, "%s is buildcast's own log of its webhooks, which only buildcast writes: use another build id", buildcast.OperationsBuild).At(field)
}
