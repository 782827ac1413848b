package planner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/buildcast/buildcast"
)

// planAnswer is a plan as planners write it. It has fewer fields than a user's plan:
// a planner cannot take secrets, files of the server, the network outside install,
// another target or the production address. Files are a list because structured output
// knows no maps with free keys.
type planAnswer struct {
	Name    string       `json:"name"`
	Tasks   []taskAnswer `json:"tasks"`
	Install string       `json:"install"`
	Build   string       `json:"build"`
	Output  string       `json:"output"`
}

type taskAnswer struct {
	Name    string             `json:"name"`
	Needs   []string           `json:"needs"`
	Prompt  string             `json:"prompt"`
	Files   []fileAnswer       `json:"files"`
	Run     string             `json:"run"`
	Retries int                `json:"retries"`
	Timeout buildcast.Duration `json:"timeout"`
}

type filesAnswer struct {
	Files []fileAnswer `json:"files"`
}

type fileAnswer struct {
	Path    string `json:"path"`
	Content string `json:"content"`
}

// ReadPlan reads and checks a planner's plan. The error is for the planner: it lists
// what is wrong. If the plan has neither install nor build, they are detected.
func ReadPlan(body json.RawMessage) (*buildcast.Plan, error) {
	var a planAnswer
	if err := decode(body, &a); err != nil {
		return nil, err
	}
	p := &buildcast.Plan{Name: a.Name, Install: a.Install, Build: a.Build, Output: a.Output}
	p.Detect = p.Install == "" && p.Build == ""
	var doubled []error
	for i, t := range a.Tasks {
		files, err := fileMap(t.Files)
		if err != nil {
			doubled = append(doubled, fmt.Errorf("tasks[%d].files: %w", i, err))
		}
		p.Tasks = append(p.Tasks, buildcast.Task{
			Name: t.Name, Needs: t.Needs, Prompt: t.Prompt, Files: files, Run: t.Run, Retries: t.Retries, Timeout: t.Timeout,
		})
	}
	return p, errors.Join(append(doubled, p.Validate())...)
}

// ReadFiles reads and checks a planner's files.
func ReadFiles(body json.RawMessage) (map[string]buildcast.File, error) {
	var a filesAnswer
	if err := decode(body, &a); err != nil {
		return nil, err
	}
	if len(a.Files) == 0 {
		return nil, errors.New("files: there are none: answer with at least one file")
	}
	files, err := fileMap(a.Files)
	if err != nil {
		return nil, fmt.Errorf("files: %w", err)
	}
	// The plan's own check knows what a path may be.
	return files, (&buildcast.Plan{Name: "x", Tasks: []buildcast.Task{{Name: "x", Files: files}}}).Validate()
}

func fileMap(list []fileAnswer) (map[string]buildcast.File, error) {
	if len(list) == 0 {
		return nil, nil
	}
	files := make(map[string]buildcast.File, len(list))
	for _, f := range list {
		if _, ok := files[f.Path]; ok {
			return files, fmt.Errorf("the path %q is there twice: write each file once", short(f.Path))
		}
		files[f.Path] = buildcast.File{Content: []byte(f.Content)}
	}
	return files, nil
}

// decode reads an answer. Fields that it does not know are errors: a planner that asks
// for secrets must hear that it gets none.
func decode(body json.RawMessage, into any) error {
	if len(body) > MaxAnswer {
		return fmt.Errorf("the answer has more than %d bytes: make it smaller", MaxAnswer)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil && d.More() {
		err = errors.New("there is more than one value")
	}
	if err != nil {
		text := strings.TrimPrefix(strings.ReplaceAll(err.Error(), "planner.", ""), "json: ")
		return fmt.Errorf("the answer does not follow the schema: %s", short(text))
	}
	return nil
}

func short(text string) string {
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "…"
	}
	return text
}

func sortedKeys(m map[string]buildcast.File) []string { return slices.Sorted(maps.Keys(m)) }
