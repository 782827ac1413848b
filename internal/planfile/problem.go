package planfile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/buildcast/buildcast"
)

// problem is one mistake in the file.
type problem struct {
	at      position
	code    buildcast.Code
	field   string // such as tasks[2].needs[0]; empty: the file as a whole
	message string
}

func (r *reader) report(at position, code buildcast.Code, field, format string, args ...any) {
	r.problems = append(r.problems, problem{at, code, field, fmt.Sprintf(format, args...)})
}

// err returns all problems as one error: one line each, with the code and field of the
// first.
func (r *reader) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	var text strings.Builder
	for i, p := range r.problems {
		if i == buildcast.MaxProblems {
			fmt.Fprintf(&text, "\n%s: and %d more", r.file, len(r.problems)-i)
			break
		}
		if i > 0 {
			text.WriteByte('\n')
		}
		fmt.Fprintf(&text, "%s%s: ", r.file, p.at)
		if p.field != "" {
			text.WriteString(p.field + ": ")
		}
		text.WriteString(p.message)
	}
	first := r.problems[0]
	return buildcast.Errorf(first.code, "%s", text.String()).At(first.field)
}

// nearest returns the place of the field, or of the field that encloses it if the file
// does not have the field.
func (r *reader) nearest(field string) position {
	for {
		if at, ok := r.at[field]; ok {
			return at
		}
		i := strings.LastIndexAny(field, ".[")
		if i < 0 {
			return r.at[""]
		}
		field = field[:i]
	}
}

// otherNames maps the names that other tools use to the fields of a plan.
var otherNames = map[string]string{
	"depends_on": "needs", "dependsOn": "needs", "requires": "needs", "after": "needs",
	"cmd": "run", "command": "run", "commands": "run", "script": "run", "exec": "run",
	"steps": "tasks", "jobs": "tasks", "stages": "tasks", "retry": "retries",
	"dist": "output", "out": "output", "target": "deploy", "title": "name", "id": "name", "file": "files",
}

// suggest names the field that was probably meant by key, or lists all.
func suggest(key string, known []string) string {
	slices.Sort(known)
	if other := otherNames[key]; slices.Contains(known, other) {
		return fmt.Sprintf("did you mean %q?", other)
	}
	best, least := "", 3 // two slips of the finger at most
	for _, k := range known {
		if d := distance(strings.ToLower(key), k); d < least && d < len(k) {
			best, least = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "use " + strings.Join(known, ", ")
}

// distance counts the letters to insert, remove or change to get from a to b.
func distance(a, b string) int {
	if len(a) > 2*len(b)+2 {
		return len(a) // far apart, and a key may be as long as the file
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// clip keeps what a message quotes from the file short.
func clip(s string) string {
	const limit = 60
	if r := []rune(s); len(r) > limit {
		return string(r[:limit]) + "…"
	}
	return s
}
