package buildcast

import "slices"

// MaxProject is the maximum length of a project's name, in bytes. A plan's name has
// the same limit, because `buildcast build` uses it as the project.
const MaxProject = 200

// Options are choices of whoever creates a build, besides what it builds.
type Options struct {
	// Planner makes the plan from the prompt, and files from tasks' prompts. Empty means
	// the server's default.
	Planner string `json:"planner,omitempty"`
	// NoCache runs everything, and reads nothing from the cache.
	NoCache bool `json:"noCache,omitempty"`
	// RetryOf is the build that this one repeats. Empty: it repeats none.
	RetryOf string `json:"retryOf,omitempty"`
	// RetryFrom is where the repetition begins: RetryFailed or RetryStart.
	RetryFrom string `json:"retryFrom,omitempty"`
}

// Where the repetition of a build begins.
const (
	RetryFailed = "failed" // what was completed is taken over
	RetryStart  = "start"  // everything runs again
)

// Build is one build: the request that created it, and its status.
type Build struct {
	ID      string `json:"id"`
	Project string `json:"project"`
	// Prompt is what a planner makes the plan of. Empty: the plan was given.
	Prompt string `json:"prompt,omitempty"`
	// Plan is what buildcast runs. It is nil for an external build, whose events are
	// reported by another program, and until the planner has made it.
	Plan *Plan `json:"plan,omitempty"`
	// Deploy is the target; empty means the plan's own.
	Deploy string `json:"deploy,omitempty"`
	Options
	Status    Status `json:"status"`
	CreatedAt Time   `json:"createdAt"`
}

// External reports whether another program runs the build and reports its events.
func (b *Build) External() bool { return b.Plan == nil && b.Prompt == "" }

// Planned reports whether a planner has a part in what the build runs: it made the
// plan, or makes files. Such a build is trusted less than a plan that a person wrote.
func (b *Build) Planned() bool {
	return b.Prompt != "" || b.Plan != nil && slices.ContainsFunc(b.Plan.Tasks, func(t Task) bool { return t.Prompt != "" })
}
