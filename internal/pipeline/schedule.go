package pipeline

import "github.com/buildcast/buildcast"

// schedule decides which tasks may start. It belongs to one goroutine.
type schedule struct {
	tasks   []scheduled // in the plan's order
	running int
	left    int // not completed
}

type scheduled struct {
	state   taskState
	needs   int   // of them not completed
	needers []int // tasks that need this one
}

type taskState int

const (
	waiting   taskState = iota // to start, once no needs are left
	running                    // holds one of the places
	paused                     // until its next attempt; holds no place
	completed                  // its needers may start
)

// newSchedule makes a schedule for a valid plan's tasks, of which some are completed.
func newSchedule(tasks []buildcast.Task, done map[string]bool) *schedule {
	s := &schedule{tasks: make([]scheduled, len(tasks)), left: len(tasks)}
	index := make(map[string]int, len(tasks))
	for i, t := range tasks {
		index[t.Name] = i
	}
	for i, t := range tasks {
		for _, need := range t.Needs {
			s.tasks[i].needs++
			n := &s.tasks[index[need]]
			n.needers = append(n.needers, i)
		}
	}
	for i, t := range tasks {
		if done[t.Name] {
			s.finish(i)
		}
	}
	return s
}

// next returns the tasks that start now, in the plan's order; at most places tasks
// run at once.
func (s *schedule) next(places int) (start []int) {
	for i := range s.tasks {
		if s.running >= places {
			break
		}
		if t := &s.tasks[i]; t.state == waiting && t.needs == 0 {
			t.state = running
			s.running++
			start = append(start, i)
		}
	}
	return start
}

// complete ends a running task.
func (s *schedule) complete(i int) {
	s.running--
	s.finish(i)
}

// pause frees a running task's place until it is ready again.
func (s *schedule) pause(i int) {
	s.running--
	s.tasks[i].state = paused
}

func (s *schedule) ready(i int) { s.tasks[i].state = waiting }

func (s *schedule) finish(i int) {
	s.tasks[i].state = completed
	s.left--
	for _, n := range s.tasks[i].needers {
		s.tasks[n].needs--
	}
}

func (s *schedule) finished() bool { return s.left == 0 }
