package buildcast

// MaxProject is the longest name of a project, in bytes. A plan's name is as long at
// most: `buildcast build` uses it as the project.
const MaxProject = 200

// Build is one build: what was asked for, and where it stands.
type Build struct {
	ID      string `json:"id"`
	Project string `json:"project"`
	Prompt  string `json:"prompt,omitempty"`
	// Plan is what buildcast runs; nil for an external build, which others report on.
	Plan *Plan `json:"plan,omitempty"`
	// Deploy is the target: local, none, or empty for the plan's own.
	Deploy    string `json:"deploy,omitempty"`
	Status    Status `json:"status"`
	CreatedAt Time   `json:"createdAt"`
}

// External reports whether others run the build and report its events.
func (b *Build) External() bool { return b.Plan == nil }
