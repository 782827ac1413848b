package cli

import (
	"fmt"
	"strings"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cache"
	"github.com/buildcast/buildcast/internal/cli/progress"
	"github.com/buildcast/buildcast/internal/cli/verb"
	"github.com/buildcast/buildcast/internal/planfile"
)

type validateCmd struct {
	Plan string `arg:"" placeholder:"PLAN" help:"The plan file, YAML or JSON, or a directory with a site."`
	JSON bool   `name:"json" help:"Print the plan as JSON, with the files that it names."`
}

// Help returns the text below the summary in the verb's help.
func (validateCmd) Help() string {
	return `
Examples:

    buildcast validate plan.yaml
    buildcast validate my-site

It reads the plan as "buildcast build" would, runs nothing and asks no server. For
each step it prints whether its result is cached, and why not.

Exit codes: 0 the plan is valid; 2 it is not.`
}

func (c *validateCmd) Run(s *verb.Session) error {
	plan, err := planfile.Find(c.Plan)
	if err != nil {
		return &verb.ExitError{Code: verb.ExitUsage, Err: err}
	}
	if c.JSON {
		return s.PrintJSON(plan)
	}
	s.Print("%s is valid: %s\n", c.Plan, about(plan))
	s.Table(append([][]string{{"STEP", "DOES", "CACHED"}}, stepsOf(plan)...))
	return nil
}

// about sums the plan up.
func about(p *buildcast.Plan) string {
	text := progress.Clean(p.Name) + ", " + countTasks(p)
	if p.Deploy != "" {
		text += ", deploy to " + p.Deploy
	}
	if (&buildcast.Build{Plan: p}).Planned() {
		text += "; the server needs a planner for its prompts"
	}
	return text
}

func countTasks(p *buildcast.Plan) string {
	if len(p.Tasks) == 1 {
		return "1 task"
	}
	return fmt.Sprintf("%d tasks", len(p.Tasks))
}

// stepsOf returns a row for each task and stage.
func stepsOf(p *buildcast.Plan) [][]string {
	var rows [][]string
	for i := range p.Tasks {
		t := &p.Tasks[i]
		rows = append(rows, []string{progress.Clean(t.Name), taskDoes(t), cached(cache.WhyTask(p, t))})
	}
	for _, stage := range []struct{ name, script, why string }{
		{cache.StageInstall, p.Install, cache.WhyInstall(p, p.Install)},
		{cache.StageBuild, p.Build, cache.WhyBuild(p, p.Install)},
	} {
		switch {
		case stage.script != "":
			rows = append(rows, []string{stage.name, "run", cached(stage.why)})
		case p.Detect:
			rows = append(rows, []string{stage.name, "what is found", "if that can be"})
		}
	}
	return rows
}

// taskDoes names what the task is made of, such as "3 files, run".
func taskDoes(t *buildcast.Task) string {
	var parts []string
	switch n := len(t.Files); n {
	case 0:
	case 1:
		parts = append(parts, "1 file")
	default:
		parts = append(parts, fmt.Sprintf("%d files", n))
	}
	if t.Prompt != "" {
		parts = append(parts, "prompt")
	}
	if t.Run != "" {
		parts = append(parts, "run")
	}
	return strings.Join(parts, ", ")
}

func cached(why string) string {
	if why == "" {
		return "yes"
	}
	return "no: " + why
}
