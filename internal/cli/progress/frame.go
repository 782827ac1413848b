package progress

import (
	"fmt"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
)

var spinner = []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")

// Frame returns the rows that change: running tasks with their timers and last line of
// output, and below them the bar. It depends on its arguments and the state only.
func (s *State) Frame(k Look, now time.Time) []string {
	if s.Status.Phase.Terminal() {
		return nil
	}
	rows := s.runningRows(k, now)
	rows = append(rows, s.plan.names(k, len(rows))...)
	if s.Notice != "" {
		rows = append(rows, Line{Left: []Span{{Bad, " ! "}, {Plain, s.Notice}}})
	}
	rows = append(rows, s.bar(k, now))
	out := make([]string, len(rows))
	for i, row := range rows {
		out[i] = k.Render(row)
	}
	return out
}

// runningRows returns rows for what is running. They leave room for a notice, the bar
// and the cursor's line.
func (s *State) runningRows(k Look, now time.Time) []Line {
	if len(s.running) == 0 {
		return []Line{{Left: []Span{{Accent, s.spin(k, now)}, {Plain, s.waiting()}}}}
	}
	room := len(s.running) * 2
	if k.Height > 0 {
		room = max(k.Height-3, 1)
	}
	shown := s.running
	if len(shown) > room {
		shown = shown[:room-1]
	}
	notes := room-len(s.running) >= len(s.running) // output is shown for all or for none
	var rows []Line
	for _, w := range shown {
		rows = append(rows, s.workRow(k, w, now))
		if notes && w.note != "" {
			rows = append(rows, Line{Left: []Span{{Dim, "   │ " + w.note}}})
		}
	}
	if n := len(s.running) - len(shown); n > 0 {
		rows = append(rows, Line{Left: []Span{{Dim, fmt.Sprintf("   … and %d more", n)}}})
	}
	return rows
}

func (s *State) workRow(k Look, w *work, now time.Time) Line {
	if w.waiting {
		return waitingRow(w, now)
	}
	left := []Span{{Accent, s.spin(k, now)}, {Plain, w.name}}
	if w.attempt > 1 {
		left = append(left, Span{Dim, "  " + w.attemptOf(w.attempt)})
	}
	if w.percent != nil {
		left = append(left, Span{Dim, fmt.Sprintf("  %.0f%%", min(max(*w.percent, 0), 100))})
	}
	return Line{Left: left, Right: []Span{{Plain, Duration(now.Sub(w.started))}}}
}

// waitingRow is the row of a task between two attempts.
func waitingRow(w *work, now time.Time) Line {
	text := "  " + w.attemptOf(max(w.attempt, 1)+1) + " follows"
	if left := w.again.Sub(now); left > 0 {
		text += " in " + Duration(left)
	}
	return Line{Left: []Span{{Warn, " ↻ "}, {Plain, w.name}, {Dim, text}}}
}

func (s *State) spin(k Look, now time.Time) string {
	if k.ASCII {
		return " * "
	}
	return " " + string(spinner[now.UnixMilli()/100%int64(len(spinner))]) + " "
}

func (s *State) waiting() string {
	if s.Absent && s.Status.Phase == "" {
		return "No such build yet; waiting for its first event"
	}
	if s.Status.Phase == "" || s.Status.Phase == buildcast.Queued && s.Status.LastEventID == 0 {
		return "Queued"
	}
	return oneLine(s.Status.Message)
}

// bar returns the progress bar with its numbers.
func (s *State) bar(k Look, now time.Time) Line {
	st := &s.Status
	facts := []string{fmt.Sprintf("%3d%%", st.Progress)}
	if st.Tasks.Total > 0 {
		facts = append(facts, fmt.Sprintf("%d/%d tasks", st.Tasks.Completed, st.Tasks.Total))
	}
	if st.StartedAt != nil {
		facts = append(facts, Duration(now.Sub(st.StartedAt.Std())))
	}
	right := "  " + strings.Join(facts, " · ")
	columns := min(max(k.Width, 1), maxWidth) - Width(right) - 2
	if columns < 10 { // too narrow for a bar
		return Line{Left: []Span{{Bold, right}}}
	}
	filled := columns * st.Progress / 100
	return Line{Left: []Span{
		{Plain, " "},
		{Good, strings.Repeat("━", filled)},
		{Dim, strings.Repeat("─", columns-filled)},
		{Plain, right},
	}}
}
