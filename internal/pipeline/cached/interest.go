package cached

import (
	"path"
	"strings"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pipeline/inputs"
)

// temporary begins the names of files that package workspace is about to rename.
const temporary = ".buildcast-task-"

// taskInterest returns what the task may read. Without inputs this is the whole
// workspace, except what tasks write that it does not need: whether they have run
// already is a matter of chance. With inputs it is those, the outputs of tasks that it
// needs, and what exists of its own outputs.
func taskInterest(p *buildcast.Plan, t *buildcast.Task) func(name string, dir bool) inputs.Interest {
	needed := neededBy(p, t)
	paths := pathSet{}
	for i := range p.Tasks {
		other := &p.Tasks[i]
		want := needed[other.Name]
		if len(t.Inputs) == 0 {
			for name := range other.Files {
				paths.add(name, want)
			}
		}
		if len(t.Inputs) == 0 || want {
			for _, name := range other.Outputs {
				paths.add(path.Clean(name), want)
			}
		}
	}
	for _, name := range t.Inputs {
		paths.add(path.Clean(name), true)
	}
	if len(t.Inputs) > 0 {
		for name := range t.Files {
			paths.add(name, true)
		}
		for _, name := range t.Outputs {
			paths.add(path.Clean(name), true)
		}
	}
	all := len(t.Inputs) == 0
	return func(name string, dir bool) inputs.Interest {
		if strings.HasPrefix(path.Base(name), temporary) {
			return inputs.Skip
		}
		return paths.interest(name, dir, all)
	}
}

// neededBy returns the names of the task and of those that it needs, directly or not.
func neededBy(p *buildcast.Plan, t *buildcast.Task) map[string]bool {
	needs := make(map[string][]string, len(p.Tasks))
	for i := range p.Tasks {
		needs[p.Tasks[i].Name] = p.Tasks[i].Needs
	}
	found := map[string]bool{t.Name: true}
	for next := []string{t.Name}; len(next) > 0; next = next[1:] {
		for _, need := range needs[next[0]] {
			if !found[need] {
				found[need] = true
				next = append(next, need)
			}
		}
	}
	return found
}

// pathSet says of paths whether they are wanted. What is below a path is as the path
// is, unless it is in the set itself.
type pathSet map[string]pathMark

type pathMark struct {
	named  bool // it is in the set itself
	wanted bool
	above  bool // a wanted path is below it
}

// add adds a path. One that is added both ways is wanted.
func (s pathSet) add(name string, wanted bool) {
	m := s[name]
	m.named, m.wanted = true, m.wanted || wanted
	s[name] = m
	if !wanted {
		return
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		m := s[dir]
		m.above = true
		s[dir] = m
	}
}

// interest returns what the set says of a name; all says whether what is not in it is
// wanted.
func (s pathSet) interest(name string, dir, all bool) inputs.Interest {
	wanted := all
	for at := name; at != "."; at = path.Dir(at) {
		if m := s[at]; m.named {
			wanted = m.wanted
			break
		}
	}
	switch {
	case wanted:
		return inputs.Hash
	case dir && s[name].above:
		return inputs.Watch // what is wanted is below it
	}
	return inputs.Skip
}
