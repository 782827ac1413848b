package progress

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// planningStage is the stage of a build that fails before it has a plan.
const planningStage = "planning"

// plannerData holds what events tell of planners.
type plannerData struct {
	Planner string   `json:"planner"`
	Model   string   `json:"model"`
	Tasks   []string `json:"tasks"` // names
	// of a planner's answer
	RequestID        string   `json:"requestId"`
	InputTokens      int64    `json:"inputTokens"`
	OutputTokens     int64    `json:"outputTokens"`
	CacheReadTokens  int64    `json:"cacheReadTokens"`
	CacheWriteTokens int64    `json:"cacheWriteTokens"`
	CostUSD          *float64 `json:"costUsd"`
}

// planning is what planners did for a build.
type planning struct {
	tasks   []string // names in the plan that is being made
	who     []string // planners, with their models
	answers int
	kept    int // answers that another build had paid
	input   int64
	output  int64
	cost    float64
	unknown bool // the price of some answer is not known
}

// planProgress shows the planner's step, and the tasks that it has named so far.
func (s *State) planProgress(at time.Time, d data) {
	d.Percent = nil
	s.step(stepPlan, s.planningSince(at), d)
	s.plan.tasks = s.plan.tasks[:0]
	for _, name := range d.Tasks[:min(len(d.Tasks), tailLines)] {
		s.plan.tasks = append(s.plan.tasks, oneLine(name))
	}
}

// planningSince returns when planning began: with the build.
func (s *State) planningSince(at time.Time) time.Time {
	if s.Status.StartedAt == nil {
		return at
	}
	return s.Status.StartedAt.Std()
}

// planned ends the planner's step. A build that came with its plan has none.
func (s *State) planned(at time.Time, d data) []Line {
	s.plan.tasks = nil
	w := s.find(stepPlan, true)
	if w == nil && d.Planner == "" {
		return nil
	}
	if w == nil {
		w = &work{name: stepPlan, started: s.planningSince(at)}
	}
	row := s.end(w, at, data{TaskName: stepPlan})
	row[0].Left = append(row[0].Left, Span{Dim, "  " + count(d.TaskCount, "task")})
	return row
}

// names returns rows for the tasks that a planner has named so far. They leave room for
// the rows that are there, a notice, the bar and the cursor's line.
func (p *planning) names(k Look, rows int) []Line {
	room := len(p.tasks)
	if k.Height > 0 {
		room = min(room, max(k.Height-rows-3, 0))
	}
	var lines []Line
	for _, name := range p.tasks[len(p.tasks)-room:] { // the latest
		lines = append(lines, Line{Left: []Span{{Dim, "   ○ " + name}}})
	}
	return lines
}

// use counts an answer.
func (p *planning) use(d data) {
	who := d.Planner
	if d.Model != "" {
		who += " (" + d.Model + ")"
	}
	if !slices.Contains(p.who, who) && len(p.who) < tailLines {
		p.who = append(p.who, who)
	}
	p.answers++
	if d.Cached {
		p.kept++
		return
	}
	p.input += d.InputTokens + d.CacheReadTokens + d.CacheWriteTokens
	p.output += d.OutputTokens
	switch {
	case d.CostUSD != nil:
		p.cost += *d.CostUSD
	case d.InputTokens+d.OutputTokens > 0: // a program counts no tokens, and costs nothing that is known
		p.unknown = true
	}
}

// rows tells at the build's end what its planners took.
func (p *planning) rows() []Line {
	if p.answers == 0 {
		return nil
	}
	facts := []string{count(p.answers, "answer")}
	if p.kept > 0 {
		facts = append(facts, fmt.Sprintf("%d of them paid before", p.kept))
	}
	if p.input+p.output > 0 {
		facts = append(facts, thousands(p.input)+" tokens in", thousands(p.output)+" out")
	}
	switch {
	case p.unknown && p.cost > 0:
		facts = append(facts, fmt.Sprintf("more than $%.4f", p.cost))
	case p.unknown:
		facts = append(facts, "price not known")
	case p.cost > 0:
		facts = append(facts, fmt.Sprintf("$%.4f", p.cost))
	}
	return []Line{{Left: []Span{{Dim, "   planner " + strings.Join(p.who, ", ") + ": " + strings.Join(facts, ", ")}}}}
}

// thousands writes 12410 as 12,410.
func thousands(n int64) string {
	digits := fmt.Sprint(max(n, 0))
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
