package buildcast

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of a plan.
const (
	MaxTasks       = 1000
	MaxFiles       = 10000 // of all tasks together
	MaxRetries     = 10    // of one task
	MaxTimeout     = 24 * time.Hour
	DefaultTimeout = 10 * time.Minute // of a command where the plan names none
	maxName        = 200              // bytes of a plan's or a task's name
	maxCommand     = 64 << 10         // bytes of a shell command
)

// The targets of a deploy.
const (
	DeployLocal = "local" // served by buildcast's own preview server
	DeployNone  = "none"  // the build ends after its build command
)

// Plan says what a build does: its tasks as their needs allow, then install,
// then build; then the output directory goes to the deploy target.
type Plan struct {
	Name  string `json:"name"`
	Tasks []Task `json:"tasks,omitempty"`
	// Install and Build are shell commands run in the workspace after the tasks.
	Install string `json:"install,omitempty"`
	Build   string `json:"build,omitempty"`
	// Timeout bounds Install and Build each; zero means DefaultTimeout.
	Timeout Duration `json:"timeout,omitzero"`
	// Output is the directory below the workspace that is deployed; empty means all of it.
	Output string `json:"output,omitempty"`
	// Deploy is the target; empty means local.
	Deploy string `json:"deploy,omitempty"`
}

// Task writes files or runs a command, or both: files first.
type Task struct {
	Name  string          `json:"name"`
	Needs []string        `json:"needs,omitempty"` // names of the tasks that must be completed first
	Files map[string]File `json:"files,omitempty"` // by path below the workspace
	Run   string          `json:"run,omitempty"`   // a shell command, run in the workspace
	// Retries is how often the task is tried again after a failure.
	Retries int `json:"retries,omitempty"`
	// Timeout bounds one attempt; zero means DefaultTimeout.
	Timeout Duration `json:"timeout,omitzero"`
}

// File is the content of one file. Its JSON form is a string, or
// {"base64": "…"} for what is not UTF-8. {"from": PATH} names a file beside the
// plan file: only whoever reads a plan file resolves it, a server never does.
type File struct {
	Content []byte
	From    string
}

type fileObject struct {
	Content string `json:"content,omitempty"`
	Base64  []byte `json:"base64,omitempty"`
	From    string `json:"from,omitempty"`
}

// MarshalJSON gives the shortest form that keeps the bytes.
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

// MarshalText gives the form of time.Duration.
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

// Or is the duration, or def where it is zero.
func (d Duration) Or(def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return time.Duration(d)
}

// Validate checks the plan. The error's Field is a path such as tasks[2].needs[0].
func (p *Plan) Validate() error {
	if err := validateName(p.Name, "name"); err != nil {
		return err
	}
	if len(p.Tasks) == 0 && p.Install == "" && p.Build == "" {
		return Errorf(InvalidArgument, "the plan does nothing: give it at least one task, or an install or build command").At("tasks")
	}
	if len(p.Tasks) > MaxTasks {
		return Errorf(TooLarge, "the plan has %d tasks, the limit is %d", len(p.Tasks), MaxTasks).At("tasks")
	}
	if err := p.validateCommands(); err != nil {
		return err
	}
	if p.Output != "" && p.Output != "." && !validPath(p.Output) {
		return badPath(p.Output, "output")
	}
	if err := ValidateDeploy(p.Deploy); err != nil {
		return err
	}
	index := make(map[string]int, len(p.Tasks))
	files := 0
	for i := range p.Tasks {
		t := &p.Tasks[i]
		at := fmt.Sprintf("tasks[%d]", i)
		if err := t.validate(at); err != nil {
			return err
		}
		if j, ok := index[t.Name]; ok {
			return Errorf(InvalidArgument, "two tasks are called %q (tasks[%d] and %s): give each a name of its own", t.Name, j, at).At(at + ".name")
		}
		index[t.Name] = i
		if files += len(t.Files); files > MaxFiles {
			return Errorf(TooLarge, "the plan has more than %d files", MaxFiles).At(at + ".files")
		}
	}
	return p.validateNeeds(index)
}

// ValidateDeploy checks the name of a target; empty means the default.
func ValidateDeploy(target string) error {
	switch target {
	case "", DeployLocal, DeployNone:
		return nil
	}
	return Errorf(InvalidArgument, "deploy target %q is not known: use %s or %s", clip(target, 40), DeployLocal, DeployNone).At("deploy")
}

func (p *Plan) validateCommands() error {
	if err := validateCommand(p.Install, "install"); err != nil {
		return err
	}
	if err := validateCommand(p.Build, "build"); err != nil {
		return err
	}
	return validateTimeout(p.Timeout, "timeout")
}

func (t *Task) validate(at string) error {
	if err := validateName(t.Name, at+".name"); err != nil {
		return err
	}
	if len(t.Files) == 0 && t.Run == "" {
		return Errorf(InvalidArgument, "task %q does nothing: give it files or a run command", t.Name).At(at)
	}
	if err := validateCommand(t.Run, at+".run"); err != nil {
		return err
	}
	if t.Retries < 0 || t.Retries > MaxRetries {
		return Errorf(InvalidArgument, "retries is %d: use 0 to %d", t.Retries, MaxRetries).At(at + ".retries")
	}
	for name := range t.Files {
		if !validPath(name) {
			return badPath(name, at+".files")
		}
	}
	return validateTimeout(t.Timeout, at+".timeout")
}

// validateNeeds checks that each need names another task and that none waits for itself.
func (p *Plan) validateNeeds(index map[string]int) error {
	waiting := make([]int, len(p.Tasks))
	dependents := make([][]int, len(p.Tasks))
	for i, t := range p.Tasks {
		for j, need := range t.Needs {
			k, ok := index[need]
			if !ok {
				return Errorf(InvalidArgument, "task %q needs %q, which is not a task of this plan", t.Name, clip(need, 60)).At(fmt.Sprintf("tasks[%d].needs[%d]", i, j))
			}
			waiting[i]++
			dependents[k] = append(dependents[k], i)
		}
	}
	ready := []int{}
	for i, n := range waiting {
		if n == 0 {
			ready = append(ready, i)
		}
	}
	for n := 0; n < len(ready); n++ {
		for _, d := range dependents[ready[n]] {
			if waiting[d]--; waiting[d] == 0 {
				ready = append(ready, d)
			}
		}
	}
	if len(ready) == len(p.Tasks) {
		return nil
	}
	i := slices.IndexFunc(waiting, func(n int) bool { return n > 0 })
	return Errorf(InvalidArgument, "task %q waits for itself through its needs: break the cycle", p.Tasks[i].Name).At(fmt.Sprintf("tasks[%d].needs", i))
}

func validateName(name, at string) error {
	if strings.TrimSpace(name) == "" || len(name) > maxName || !utf8.ValidString(name) || !each(name, isPrintable) {
		return Errorf(InvalidArgument, "name is %d bytes: use 1 to %d bytes of UTF-8 without control characters", len(name), maxName).At(at)
	}
	return nil
}

func validateCommand(command, at string) error {
	if len(command) > maxCommand {
		return Errorf(TooLarge, "the command is %d bytes, the limit is %d: put it in a file", len(command), maxCommand).At(at)
	}
	if strings.ContainsRune(command, 0) || !utf8.ValidString(command) {
		return Errorf(InvalidArgument, "the command must be UTF-8 without zero bytes").At(at)
	}
	return nil
}

func validateTimeout(d Duration, at string) error {
	if time.Duration(d) > MaxTimeout {
		return Errorf(InvalidArgument, "timeout is %v, the limit is %v", time.Duration(d), MaxTimeout).At(at)
	}
	return nil
}

// validPath reports whether p stays below the directory it is joined to: no
// absolute path, no .., in its shortest form with forward slashes.
func validPath(p string) bool {
	return p != "" && p != "." && len(p) <= 1024 && utf8.ValidString(p) && each(p, isPrintable) &&
		!strings.Contains(p, `\`) && path.Clean(p) == p && !path.IsAbs(p) && p != ".." && !strings.HasPrefix(p, "../")
}

func badPath(p, at string) error {
	return Errorf(InvalidArgument, "path %q is not allowed: use a path below the workspace such as src/index.html, without .., . or a leading slash", clip(p, 80)).At(at)
}
