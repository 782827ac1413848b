package buildcast

// MaxProject is the maximum length of a project's name, in bytes. A plan's name has
// the same limit, because `buildcast build` uses it as the project.
const MaxProject = 200

// Build is one build: the request that created it, and its status.
type Build struct {
	ID      string `json:"id"`
	Project string `json:"project"`
	Prompt  string `json:"prompt,omitempty"`
	// Plan is what buildcast runs. It is nil for an external build, whose events are
	// reported by another program.
	Plan *Plan `json:"plan,omitempty"`
	// Deploy is the target: local, none, or empty for the plan's own.
	Deploy    string `json:"deploy,omitempty"`
	Status    Status `json:"status"`
	CreatedAt Time   `json:"createdAt"`
}

// External reports whether another program runs the build and reports its events.
func (b *Build) External() bool { return b.Plan == nil }
