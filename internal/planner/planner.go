// Package planner turns prompts into plans, and tasks' prompts into files.
//
// A [Planner] is one way to do that: a model's API (package anthropic), or any program
// (package command). The [Service] is above them. It
//   - finds a planner by its name,
//   - remembers every answer before it is used, so that neither a crash nor a retry
//     pays for the same answer twice,
//   - holds the budgets of tokens and of money, for a build and for a day, and
//   - checks answers: a wrong one goes back to the planner once, with what is wrong.
//
// What a planner answers is not trusted: it becomes commands. It passes the same checks
// as a plan of a user, and may ask for less; see [ReadPlan].
package planner

import (
	"context"
	"encoding/json"

	"github.com/buildcast/buildcast"
)

// Version is that of the requests that this package makes.
const Version = 1

// MaxAnswer is the maximum of an answer's JSON, in bytes.
const MaxAnswer = 8 << 20

// Purpose is what a planner is asked for.
type Purpose string

// The purposes.
const (
	ForPlan  Purpose = "plan"  // a plan, made of the build's prompt
	ForFiles Purpose = "files" // the files of one task, made of the task's prompt
)

// Planner answers requests. It may be called from many goroutines.
type Planner interface {
	// Ask returns the answer to the request. It reports progress from one goroutine at
	// a time, and not after it has returned. The error is an *Error, or the cause of
	// ctx's end.
	Ask(ctx context.Context, req Request, progress func(Progress)) (Answer, error)
}

// Request is one question to a planner. Its JSON form is what a planner command reads;
// request.schema.json describes it.
type Request struct {
	Version int     `json:"version"`
	Purpose Purpose `json:"purpose"`
	Project string  `json:"project,omitempty"`
	// Prompt is the build's. It is empty if a person wrote the plan.
	Prompt string `json:"prompt,omitempty"`
	// Plan, Task and Files are set if files are asked for.
	Plan  *Outline `json:"plan,omitempty"`
	Task  *Task    `json:"task,omitempty"`
	Files []File   `json:"files,omitempty"`
	// Previous is an answer that was wrong, and Problem says why. The planner is asked
	// for a better one.
	Previous json.RawMessage `json:"previous,omitempty"`
	Problem  string          `json:"problem,omitempty"`

	// MaxOutput is how many tokens the answer may have; 0: no bound.
	MaxOutput int64 `json:"-"`
}

// Outline is the plan that a task belongs to, without its files' contents, variables
// and secrets.
type Outline struct {
	Name    string        `json:"name"`
	Tasks   []OutlineTask `json:"tasks"`
	Install string        `json:"install,omitempty"`
	Build   string        `json:"build,omitempty"`
	Output  string        `json:"output,omitempty"`
}

// OutlineTask is a task of an Outline.
type OutlineTask struct {
	Name   string   `json:"name"`
	Needs  []string `json:"needs,omitempty"`
	Files  []string `json:"files,omitempty"` // paths
	Run    string   `json:"run,omitempty"`
	Prompt string   `json:"prompt,omitempty"`
}

// Task is the task whose files are asked for.
type Task struct {
	Name   string `json:"name"`
	Prompt string `json:"prompt"`
}

// File is a file of the workspace. Content is nil if it is not text, is too large, or
// may hold a secret.
type File struct {
	Path    string  `json:"path"`
	Size    int64   `json:"size"`
	Content *string `json:"content,omitempty"`
}

// Answer is what a planner answered.
type Answer struct {
	// Body is a plan or files, as plan.schema.json and files.schema.json describe them.
	Body  json.RawMessage
	Usage Usage
}

// Usage is what an answer took. The numbers include attempts of the same request that
// broke off.
type Usage struct {
	Model            string `json:"model,omitempty"`
	RequestID        string `json:"requestId,omitempty"` // the provider's
	InputTokens      int64  `json:"inputTokens"`         // without those of the cache
	OutputTokens     int64  `json:"outputTokens"`
	CacheReadTokens  int64  `json:"cacheReadTokens"` // of the provider's prompt cache
	CacheWriteTokens int64  `json:"cacheWriteTokens"`
	// CostUSD is nil if the price is not known.
	CostUSD *float64 `json:"costUsd"`
}

// Tokens is the sum that budgets count.
func (u *Usage) Tokens() int64 {
	return u.InputTokens + u.OutputTokens + u.CacheReadTokens + u.CacheWriteTokens
}

// Add adds the tokens of another attempt.
func (u *Usage) Add(o Usage) {
	u.InputTokens += o.InputTokens
	u.OutputTokens += o.OutputTokens
	u.CacheReadTokens += o.CacheReadTokens
	u.CacheWriteTokens += o.CacheWriteTokens
}

// Progress is how far a planner is.
type Progress struct {
	Message      string
	Tasks        []string // the names of tasks so far
	OutputTokens int64    // so far; 0: not known
	// Lines are for the build's output, such as that of a planner command. A Progress has
	// either Lines or the rest.
	Lines []string
}

// Error is why there is no answer. Message is for users.
type Error struct {
	Message   string
	RequestID string // the provider's; may be empty
	// Usage is what was paid all the same; nil: nothing.
	Usage *Usage
	// Final: the same request would end in the same way.
	Final bool
	Err   error // the cause, for logs only
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Err }

// OutlineOf returns the plan's outline.
func OutlineOf(p *buildcast.Plan) *Outline {
	o := &Outline{Name: p.Name, Install: p.Install, Build: p.Build, Output: p.Output, Tasks: []OutlineTask{}}
	for _, t := range p.Tasks {
		o.Tasks = append(o.Tasks, OutlineTask{Name: t.Name, Needs: t.Needs, Files: sortedKeys(t.Files), Run: t.Run, Prompt: t.Prompt})
	}
	return o
}
