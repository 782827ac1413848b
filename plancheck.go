package buildcast

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxProblems is the maximum of mistakes that one error lists.
const MaxProblems = 20

// maxCycle is the maximum of tasks of a cycle that an error names.
const maxCycle = 10

// Validate checks the plan. The error lists all mistakes, up to MaxProblems, each on
// a line of its own if there are several. Its code and field are those of the first
// mistake. A field is a path such as tasks[2].needs[0].
func (p *Plan) Validate() error {
	found := p.Problems()
	switch len(found) {
	case 0:
		return nil
	case 1:
		return found[0]
	}
	var text strings.Builder
	for i, e := range found {
		if i == MaxProblems {
			fmt.Fprintf(&text, "\nand %d more", len(found)-i)
			break
		}
		if i > 0 {
			text.WriteByte('\n')
		}
		text.WriteString(e.Field + ": " + e.Message)
	}
	return Errorf(found[0].Code, "%s", text.String()).At(found[0].Field)
}

// Problems returns all mistakes in the plan, each with its field.
func (p *Plan) Problems() []*Error {
	var found problems
	found.add(checkName(p.Name, "name"))
	if len(p.Tasks) == 0 && p.Install == "" && p.Build == "" {
		found.add(Errorf(InvalidArgument, "the plan does nothing: give it at least one task, or an install or build command").At("tasks"))
	}
	if len(p.Tasks) > MaxTasks {
		found.add(Errorf(TooLarge, "the plan has %d tasks, the limit is %d", len(p.Tasks), MaxTasks).At("tasks"))
		return found
	}
	found.add(checkCommand(p.Install, "install"))
	found.add(checkCommand(p.Build, "build"))
	found.add(checkTimeout(p.Timeout, "timeout"))
	checkVariables(p.Env, p.Secrets, "", &found)
	if p.Output != "" && p.Output != "." && !validPath(p.Output) {
		found.add(badPath(p.Output, "output"))
	}
	found.add(checkDeploy(p.Deploy))
	index := p.checkTasks(&found)
	p.checkNeeds(index, &found)
	return found
}

// problems are mistakes, in the order of the plan.
type problems []*Error

// add adds a problem, unless it is nil.
func (p *problems) add(e *Error) {
	if e != nil {
		*p = append(*p, e)
	}
}

// ValidateDeploy checks the name of a target; empty means the default.
func ValidateDeploy(target string) error {
	if e := checkDeploy(target); e != nil {
		return e
	}
	return nil
}

func checkDeploy(target string) *Error {
	switch target {
	case "", DeployLocal, DeployCloudflare, DeployCommand, DeployNone:
		return nil
	}
	return Errorf(InvalidArgument, "deploy target %q is not known: use %s, %s, %s or %s", clip(target, 40), DeployLocal, DeployCloudflare, DeployCommand, DeployNone).At("deploy")
}

// checkTasks returns the tasks' indexes by their names.
func (p *Plan) checkTasks(found *problems) map[string]int {
	index := make(map[string]int, len(p.Tasks))
	files := 0
	for i := range p.Tasks {
		t := &p.Tasks[i]
		at := fmt.Sprintf("tasks[%d]", i)
		t.check(at, found)
		if j, ok := index[t.Name]; ok && t.Name != "" {
			found.add(Errorf(InvalidArgument, "two tasks are called %q (tasks[%d] and %s): give each a name of its own", clip(t.Name, 60), j, at).At(at + ".name"))
		} else {
			index[t.Name] = i
		}
		before := files
		if files += len(t.Files); files > MaxFiles && before <= MaxFiles {
			found.add(Errorf(TooLarge, "the plan has more than %d files", MaxFiles).At(at + ".files"))
		}
	}
	return index
}

func (t *Task) check(at string, found *problems) {
	found.add(checkName(t.Name, at+".name"))
	if len(t.Files) == 0 && t.Run == "" && t.Prompt == "" {
		found.add(Errorf(InvalidArgument, "task %q does nothing: give it files, a run command or a prompt", clip(t.Name, 60)).At(at))
	}
	if t.Prompt != "" {
		found.add(checkPrompt(t.Prompt, at+".prompt"))
	}
	found.add(checkCommand(t.Run, at+".run"))
	if t.Retries < 0 || t.Retries > MaxRetries {
		found.add(Errorf(InvalidArgument, "retries is %d: use 0 to %d", t.Retries, MaxRetries).At(at + ".retries"))
	}
	worst := "" // one of the paths, the same each time
	for name := range t.Files {
		if !validPath(name) && (worst == "" || name < worst) {
			worst = name
		}
	}
	if _, empty := t.Files[""]; empty || worst != "" {
		found.add(badPath(worst, at+".files"))
	}
	found.add(checkTimeout(t.Timeout, at+".timeout"))
	checkVariables(t.Env, t.Secrets, at+".", found)
	checkPaths(t.Outputs, at+".outputs", found)
	checkPaths(t.Inputs, at+".inputs", found)
}

// ValidatePrompt checks a build's prompt.
func ValidatePrompt(prompt string) error {
	if e := checkPrompt(prompt, "prompt"); e != nil {
		return e
	}
	return nil
}

func checkPrompt(prompt, at string) *Error {
	switch {
	case len(prompt) > MaxPrompt:
		return Errorf(TooLarge, "the prompt is %d bytes, the limit is %d: make it shorter", len(prompt), MaxPrompt).At(at)
	case strings.TrimSpace(prompt) == "":
		return Errorf(InvalidArgument, "the prompt is empty: say what is to be built").At(at)
	case strings.ContainsRune(prompt, 0) || !utf8.ValidString(prompt):
		return Errorf(InvalidArgument, "the prompt must be UTF-8 without zero bytes").At(at)
	}
	return nil
}

// checkVariables checks env and secrets of the plan or of a task; prefix is the task's
// path.
func checkVariables(env map[string]string, secrets []string, prefix string, found *problems) {
	if len(env) > MaxVariables || len(secrets) > MaxVariables {
		found.add(Errorf(TooLarge, "there are %d variables and %d secrets, the limit is %d each", len(env), len(secrets), MaxVariables).At(prefix + "env"))
		return
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		found.add(checkVariable(name, prefix+"env"))
		if value := env[name]; len(value) > maxValue || strings.ContainsRune(value, 0) || !utf8.ValidString(value) {
			found.add(Errorf(InvalidArgument, "the value of %s must be at most %d bytes of UTF-8 without zero bytes", clip(name, 60), maxValue).At(prefix + "env"))
		}
	}
	for i, name := range secrets {
		at := fmt.Sprintf("%ssecrets[%d]", prefix, i)
		found.add(checkVariable(name, at))
		if _, both := env[name]; both {
			found.add(Errorf(InvalidArgument, "%s is in env and in secrets: name it in one of them", clip(name, 60)).At(at))
		}
	}
}

// checkVariable checks the name of a variable. Those with which buildcast marks and
// steers commands are its own.
func checkVariable(name, at string) *Error {
	if name == "" || len(name) > MaxProject || name[0] >= '0' && name[0] <= '9' || !each(name, isVariable) {
		return Errorf(InvalidArgument, "%q is not a variable's name: use letters, digits and _, and begin with a letter or _", clip(name, 60)).At(at)
	}
	if reserved(name) {
		return Errorf(InvalidArgument, "%s is not a plan's to set (docs/plan.md, Variables and secrets): use another name, or set it in the command", clip(name, 60)).At(at)
	}
	return nil
}

// reserved reports whether buildcast itself sets the variable, or the programs with
// which it starts a command would obey it.
func reserved(name string) bool {
	for _, prefix := range []string{"BUILDCAST_", "LD_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	switch strings.ToLower(name) {
	case "home", "tmpdir", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
		"npm_config_cache", "npm_config_proxy", "npm_config_https_proxy", "npm_config_noproxy",
		"turbo_api", "turbo_token", "turbo_team", "turbo_teamid":
		return true
	}
	return false
}

func isVariable(c byte) bool {
	return c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
}

func checkPaths(paths []string, at string, found *problems) {
	if len(paths) > MaxPaths {
		found.add(Errorf(TooLarge, "there are %d paths, the limit is %d: name directories", len(paths), MaxPaths).At(at))
		return
	}
	for i, p := range paths {
		if !validPath(p) {
			found.add(badPath(p, fmt.Sprintf("%s[%d]", at, i)))
		}
	}
}

// checkNeeds checks that each need names another task and that none waits for itself.
func (p *Plan) checkNeeds(index map[string]int, found *problems) {
	needs := make([][]int, len(p.Tasks)) // those that exist
	for i, t := range p.Tasks {
		for j, need := range t.Needs {
			k, ok := index[need]
			if !ok {
				found.add(Errorf(InvalidArgument, "task %q needs %q, which is not a task of this plan", clip(t.Name, 60), clip(need, 60)).At(fmt.Sprintf("tasks[%d].needs[%d]", i, j)))
				continue
			}
			needs[i] = append(needs[i], k)
		}
	}
	for _, cycle := range cycles(needs) {
		names := make([]string, 0, len(cycle)+1)
		for _, i := range append(cycle, cycle[0]) {
			names = append(names, fmt.Sprintf("%q", clip(p.Tasks[i].Name, 60)))
		}
		if n := len(names); n > maxCycle+1 {
			names = append(names[:maxCycle-1], fmt.Sprintf("(%d more)", n-maxCycle), names[n-1])
		}
		found.add(Errorf(InvalidArgument, "tasks wait for each other: %s: remove one of these needs", strings.Join(names, " -> ")).At(fmt.Sprintf("tasks[%d].needs", cycle[0])))
	}
}

// cycles returns cycles of tasks that wait for each other: at least one if there are
// any, but not always all. Each begins with its first task in the plan. needs has, for
// each task, the indexes of the tasks that it needs.
func cycles(needs [][]int) (all [][]int) {
	left := unfinished(needs)
	walk := make([]int, len(needs)) // the walk that has visited the task, from 1; 0: none
	for start := range needs {
		if !left[start] || walk[start] != 0 {
			continue
		}
		var path []int
		at := start
		for walk[at] == 0 {
			walk[at] = start + 1
			path = append(path, at)
			for _, n := range needs[at] { // at least one of them is left, because the task is
				if left[n] {
					at = n
					break
				}
			}
		}
		if walk[at] == start+1 {
			all = append(all, rotated(path, at))
		}
	}
	return all
}

// rotated returns the part of the path from at to its end, rotated so that it begins
// with its smallest index.
func rotated(path []int, at int) []int {
	for path[0] != at {
		path = path[1:]
	}
	first := 0
	for i := range path {
		if path[i] < path[first] {
			first = i
		}
	}
	return append(append([]int{}, path[first:]...), path[:first]...)
}

// unfinished reports for each task whether it would wait for ever.
func unfinished(needs [][]int) []bool {
	waiting := make([]int, len(needs))
	dependents := make([][]int, len(needs))
	ready := []int{}
	for i := range needs {
		if waiting[i] = len(needs[i]); waiting[i] == 0 {
			ready = append(ready, i)
		}
		for _, n := range needs[i] {
			dependents[n] = append(dependents[n], i)
		}
	}
	for n := 0; n < len(ready); n++ {
		for _, d := range dependents[ready[n]] {
			if waiting[d]--; waiting[d] == 0 {
				ready = append(ready, d)
			}
		}
	}
	left := make([]bool, len(needs))
	for i, n := range waiting {
		left[i] = n > 0
	}
	return left
}

func checkName(name, at string) *Error {
	if strings.TrimSpace(name) == "" || len(name) > maxName || !utf8.ValidString(name) || !each(name, isPrintable) {
		return Errorf(InvalidArgument, "name is %d bytes: use 1 to %d bytes of UTF-8 without control characters", len(name), maxName).At(at)
	}
	return nil
}

func checkCommand(command, at string) *Error {
	if len(command) > maxCommand {
		return Errorf(TooLarge, "the command is %d bytes, the limit is %d: put it in a file", len(command), maxCommand).At(at)
	}
	if strings.ContainsRune(command, 0) || !utf8.ValidString(command) {
		return Errorf(InvalidArgument, "the command must be UTF-8 without zero bytes").At(at)
	}
	return nil
}

func checkTimeout(d Duration, at string) *Error {
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

func badPath(p, at string) *Error {
	return Errorf(InvalidArgument, "path %q is not allowed: use a path below the workspace such as src/index.html, without .., . or a leading slash", clip(p, 80)).At(at)
}
