package pipeline

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/buildcast/buildcast"
)

// For any needs, outcomes and number of places:
//   - a task starts only when the tasks it needs have completed,
//   - ready tasks start in the plan's order,
//   - a task never runs twice at once,
//   - never more tasks run than there are places, and
//   - in the end all tasks have completed.
func TestScheduleProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tasks := drawTasks(t)
		done := map[string]bool{}
		places := rapid.IntRange(1, 5).Draw(t, "places")
		for _, task := range tasks { // any task may be completed already if its needs are
			ok := !slices.ContainsFunc(task.Needs, func(n string) bool { return !done[n] })
			if ok && rapid.Bool().Draw(t, "completed before") {
				done[task.Name] = true
			}
		}
		s := newSchedule(tasks, done)
		running, paused := []int{}, []int{}
		for !s.finished() {
			started := s.next(places)
			if !slices.IsSorted(started) {
				t.Fatalf("started %v", started)
			}
			for _, i := range started {
				for _, need := range tasks[i].Needs {
					if !done[need] {
						t.Fatalf("%s started before %s was completed", tasks[i].Name, need)
					}
				}
				if done[tasks[i].Name] || slices.Contains(running, i) || slices.Contains(paused, i) {
					t.Fatalf("%s started again", tasks[i].Name)
				}
			}
			running = append(running, started...)
			if len(running) > places {
				t.Fatalf("%d run in %d places", len(running), places)
			}
			if len(running) < places {
				checkNoneIsHeldBack(t, tasks, done, running, paused)
			}
			step(t, s, tasks, done, &running, &paused)
		}
		if len(done) != len(tasks) {
			t.Fatalf("finished with %d of %d", len(done), len(tasks))
		}
	})
}

func drawTasks(t *rapid.T) []buildcast.Task {
	tasks := make([]buildcast.Task, rapid.IntRange(1, 12).Draw(t, "tasks"))
	for i := range tasks {
		tasks[i].Name = fmt.Sprint("t", i)
		for j := range i {
			if rapid.IntRange(0, 3).Draw(t, "need") == 0 {
				tasks[i].Needs = append(tasks[i].Needs, fmt.Sprint("t", j))
			}
		}
	}
	// A task may need one that comes later in the plan.
	return rapid.Permutation(tasks).Draw(t, "order")
}

func checkNoneIsHeldBack(t *rapid.T, tasks []buildcast.Task, done map[string]bool, running, paused []int) {
	for i, task := range tasks {
		waits := slices.ContainsFunc(task.Needs, func(n string) bool { return !done[n] })
		if !waits && !done[task.Name] && !slices.Contains(running, i) && !slices.Contains(paused, i) {
			t.Fatalf("%s could run and does not", task.Name)
		}
	}
}

// step ends one of the running tasks, or one of the waits for a next attempt.
func step(t *rapid.T, s *schedule, tasks []buildcast.Task, done map[string]bool, running, paused *[]int) {
	n := rapid.IntRange(0, len(*running)+len(*paused)-1).Draw(t, "next")
	if n >= len(*running) {
		n -= len(*running)
		s.ready((*paused)[n])
		*paused = slices.Delete(*paused, n, n+1)
		return
	}
	i := (*running)[n]
	*running = slices.Delete(*running, n, n+1)
	if rapid.IntRange(0, 3).Draw(t, "fails") == 0 {
		s.pause(i)
		*paused = append(*paused, i)
		return
	}
	s.complete(i)
	done[tasks[i].Name] = true
}
