package buildcast

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// Limits of a plan.
const (
	MaxTasks       = 1000
	MaxFiles       = 10000 // of all tasks together
	MaxRetries     = 10    // of one task
	MaxTimeout     = 24 * time.Hour
	DefaultTimeout = 10 * time.Minute // of a command if the plan names none
	MaxPrompt      = 32 << 10         // bytes of a prompt, a build's or a task's
	MaxVariables   = 200              // entries of env, and names of secrets, each
	MaxPaths       = 1000             // entries of inputs or outputs
	maxValue       = 32 << 10         // bytes of a variable's value
	maxName        = MaxProject       // bytes of a plan's or a task's name
	maxCommand     = 64 << 10         // bytes of a shell command
)

// The targets of a deploy.
const (
	DeployLocal      = "local"      // served by buildcast's own preview server
	DeployCloudflare = "cloudflare" // uploaded to Cloudflare Pages
	DeployCommand    = "command"    // given to a program of the server's operator
	DeployNone       = "none"       // the build ends after its build command
)

// Plan is what a build does: it runs the tasks as their needs allow, then install,
// then build, and deploys the output directory.
type Plan struct {
	Name  string `json:"name"`
	Tasks []Task `json:"tasks,omitempty"`
	// Install and Build are shell commands run in the workspace after the tasks.
	Install string `json:"install,omitempty"`
	Build   string `json:"build,omitempty"`
	// Detect lets buildcast find what the plan leaves out of Install, Build and Output in
	// the files that the workspace has after the tasks.
	Detect bool `json:"detect,omitempty"`
	// Env are variables of all commands. Values may end up in output and caches: use
	// Secrets for those that must not.
	Env map[string]string `json:"env,omitempty"`
	// Secrets are the names of secrets that the server keeps and gives to all commands
	// as variables. Their values are masked in output.
	Secrets []string `json:"secrets,omitempty"`
	// Network lets the build command use the network as far as the server allows it.
	// Install may always use it; tasks ask for themselves.
	Network bool `json:"network,omitempty"`
	// Timeout bounds Install and Build each; zero means DefaultTimeout.
	Timeout Duration `json:"timeout,omitzero"`
	// Output is the directory below the workspace that is deployed; empty means all of it.
	Output string `json:"output,omitempty"`
	// Deploy is the target; empty means local. If Output is empty too, a build that
	// leaves nothing to deploy completes without a deploy.
	Deploy string `json:"deploy,omitempty"`
	// Production deploys to the address that the site is known by, if the target has
	// one, and not as a preview.
	Production bool `json:"production,omitempty"`
}

// Task has files written or runs a command, or both: files first.
type Task struct {
	Name  string          `json:"name"`
	Needs []string        `json:"needs,omitempty"` // names of the tasks that must be completed first
	Files map[string]File `json:"files,omitempty"` // by path below the workspace
	Run   string          `json:"run,omitempty"`   // a shell command, run in the workspace
	// Prompt asks the build's planner for files. They are written after Files.
	Prompt string `json:"prompt,omitempty"`
	// Outputs are the files and directories that the task makes. A task that names them
	// is cached: if it has run with the same inputs before, they are restored instead.
	Outputs []string `json:"outputs,omitempty"`
	// Inputs are the files and directories that the task reads. Empty means all that the
	// workspace has when it begins.
	Inputs []string `json:"inputs,omitempty"`
	// Env and Secrets are as those of the plan, for this task alone.
	Env     map[string]string `json:"env,omitempty"`
	Secrets []string          `json:"secrets,omitempty"`
	// Network lets the command use the network as far as the server allows it. Such a
	// task is not cached.
	Network bool `json:"network,omitempty"`
	// Retries is how often the task is tried again after a failure.
	Retries int `json:"retries,omitempty"`
	// Timeout bounds one attempt; zero means DefaultTimeout.
	Timeout Duration `json:"timeout,omitzero"`
}

// File is the content of one file. Its JSON form is a string, or
// {"base64": "…"} for content that is not UTF-8. {"from": PATH} names a file
// relative to the plan file: programs that read plan files resolve it, servers never
// do.
type File struct {
	Content []byte
	From    string
}

type fileObject struct {
	Content string `json:"content,omitempty"`
	Base64  []byte `json:"base64,omitempty"`
	From    string `json:"from,omitempty"`
}

// MarshalJSON returns the shortest form that keeps the bytes.
func (f File) MarshalJSON() ([]byte, error) {
	switch {
	case f.From != "":
		return json.Marshal(fileObject{From: f.From})
	case utf8.Valid(f.Content):
		return json.Marshal(string(f.Content))
	default:
		return json.Marshal(fileObject{Base64: f.Content})
	}
}

// UnmarshalJSON reads either form.
func (f *File) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		*f = File{Content: []byte(text)}
		return nil
	}
	var o fileObject
	if err := json.Unmarshal(b, &o); err != nil {
		return fmt.Errorf("a file is its content as text, {base64: …} or {from: PATH}")
	}
	*f = File{Content: []byte(o.Content), From: o.From}
	if len(o.Base64) > 0 {
		f.Content = o.Base64
	}
	return nil
}

// Duration is a time.Duration whose text form is 90s, 5m, 1h30m.
type Duration time.Duration

// MarshalText returns the form of time.Duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads the form of time.ParseDuration.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration such as 90s or 5m", clip(string(b), 40))
	}
	*d = Duration(v)
	return nil
}

// Or returns the duration, or def if it is zero.
func (d Duration) Or(def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return time.Duration(d)
}
