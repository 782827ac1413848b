package planfile

import (
	"encoding/base64"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v4"

	"github.com/buildcast/buildcast"
)

// reader turns the nodes of one file into a plan, and collects the problems.
type reader struct {
	file     string
	from     fs.FS
	budget   int64               // bytes that from: may still bring in
	at       map[string]position // where each field is, by its path
	problems []problem
}

// value reads one node, whose path in the plan is at.
type value func(n *yaml.Node, at string)

func (r *reader) wrong(n *yaml.Node, at, format string, args ...any) {
	r.report(place(n), buildcast.InvalidArgument, at, format, args...)
}

func (r *reader) plan(n *yaml.Node) *buildcast.Plan {
	p := new(buildcast.Plan)
	r.object(n, "", map[string]value{
		"name":       r.text(&p.Name),
		"tasks":      r.tasks(&p.Tasks),
		"install":    r.text(&p.Install),
		"build":      r.text(&p.Build),
		"detect":     r.boolean(&p.Detect),
		"env":        r.env(&p.Env),
		"secrets":    r.texts(&p.Secrets),
		"network":    r.boolean(&p.Network),
		"timeout":    r.duration(&p.Timeout),
		"output":     r.text(&p.Output),
		"deploy":     r.text(&p.Deploy),
		"production": r.boolean(&p.Production),
	})
	return p
}

func (r *reader) tasks(to *[]buildcast.Task) value {
	return r.list(func(n *yaml.Node, at string) {
		var t buildcast.Task
		r.object(n, at, map[string]value{
			"name":    r.text(&t.Name),
			"needs":   r.texts(&t.Needs),
			"files":   r.files(&t.Files),
			"run":     r.text(&t.Run),
			"prompt":  r.text(&t.Prompt),
			"outputs": r.texts(&t.Outputs),
			"inputs":  r.texts(&t.Inputs),
			"env":     r.env(&t.Env),
			"secrets": r.texts(&t.Secrets),
			"network": r.boolean(&t.Network),
			"retries": r.number(&t.Retries),
			"timeout": r.duration(&t.Timeout),
		})
		*to = append(*to, t)
	})
}

func (r *reader) texts(to *[]string) value {
	return r.list(func(n *yaml.Node, at string) {
		var s string
		r.text(&s)(n, at)
		*to = append(*to, s)
	})
}

// env reads an object whose keys are names of variables.
func (r *reader) env(to *map[string]string) value {
	return func(n *yaml.Node, at string) {
		*to = make(map[string]string)
		r.pairs(n, at, func(key, n *yaml.Node, at string) {
			var text string
			r.text(&text)(n, at)
			(*to)[key.Value] = text
		})
	}
}

// files reads an object whose keys are paths.
func (r *reader) files(to *map[string]buildcast.File) value {
	return func(n *yaml.Node, at string) {
		*to = make(map[string]buildcast.File)
		r.pairs(n, at, func(key, n *yaml.Node, at string) {
			r.fileAt(key, n, at, *to)
		})
	}
}

// fileAt reads one entry of files: a file, or a directory that from: names.
func (r *reader) fileAt(key, n *yaml.Node, at string, to map[string]buildcast.File) {
	if n.Kind != yaml.MappingNode {
		var content string
		r.text(&content)(n, at)
		r.add(key, key.Value, at, buildcast.File{Content: []byte(content)}, to)
		return
	}
	var content, encoded, from string
	r.object(n, at, map[string]value{"content": r.text(&content), "base64": r.text(&encoded), "from": r.text(&from)})
	if len(n.Content) != 2 {
		r.wrong(n, at, "give the file as its content, or with one of content:, base64: and from:")
		return
	}
	switch n.Content[0].Value {
	case "content":
		r.add(key, key.Value, at, buildcast.File{Content: []byte(content)}, to)
	case "base64":
		b, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			r.wrong(n.Content[1], at+".base64", "not valid base64: %v", err)
		}
		r.add(key, key.Value, at, buildcast.File{Content: b}, to)
	case "from":
		r.readFrom(n.Content[1], from, at+".from", func(below string, content []byte) {
			r.add(key, join(key.Value, below), at, buildcast.File{Content: content}, to)
		})
	}
}

func (r *reader) add(key *yaml.Node, path, at string, f buildcast.File, to map[string]buildcast.File) {
	if _, ok := to[path]; ok {
		r.wrong(key, at, "file %q is in this task twice", clip(path))
		return
	}
	to[path] = f
}

func (r *reader) list(element value) value {
	return func(n *yaml.Node, at string) {
		if n.Kind != yaml.SequenceNode {
			r.wrong(n, at, "want a list, got %s", describe(n))
			return
		}
		for i, n := range n.Content {
			at := fmt.Sprintf("%s[%d]", at, i)
			r.at[at] = place(n)
			element(n, at)
		}
	}
}

// object reads a mapping with the given fields. A field without a value counts
// as left out.
func (r *reader) object(n *yaml.Node, at string, fields map[string]value) {
	r.pairs(n, at, func(key, n *yaml.Node, field string) {
		read, ok := fields[key.Value]
		switch {
		case !ok:
			r.wrong(key, at, "unknown field %q: %s", clip(key.Value), suggest(key.Value, slices.Collect(maps.Keys(fields))))
		case !isNull(n):
			read(n, field)
		}
	})
}

// pairs walks a mapping, whose keys are text and different from each other.
func (r *reader) pairs(n *yaml.Node, at string, each func(key, value *yaml.Node, at string)) {
	if _, ok := r.at[at]; !ok {
		r.at[at] = place(n)
	}
	if n.Kind != yaml.MappingNode {
		r.wrong(n, at, "want an object with fields, got %s", describe(n))
		return
	}
	lines := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			r.wrong(key, at, "want a name before the colon, got %s", describe(key))
			continue
		}
		if line, ok := lines[key.Value]; ok {
			r.wrong(key, at, "%q is given twice, first in line %d", clip(key.Value), line)
			continue
		}
		lines[key.Value] = key.Line
		field := key.Value
		if at != "" {
			field = at + "." + clip(key.Value)
		}
		r.at[field] = place(value)
		each(key, value, field)
	}
}

func (r *reader) text(to *string) value {
	return func(n *yaml.Node, at string) {
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
			r.wrong(n, at, "want text, got %s%s", describe(n), quoteHint(n))
			return
		}
		*to = n.Value
	}
}

func (r *reader) number(to *int) value {
	return func(n *yaml.Node, at string) {
		v, err := strconv.Atoi(n.Value)
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || err != nil {
			r.wrong(n, at, "want a whole number, got %s", describe(n))
			return
		}
		*to = v
	}
}

func (r *reader) boolean(to *bool) value {
	return func(n *yaml.Node, at string) {
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
			r.wrong(n, at, "want true or false, got %s", describe(n))
			return
		}
		*to = n.Value == "true" || n.Value == "True" || n.Value == "TRUE"
	}
}

func (r *reader) duration(to *buildcast.Duration) value {
	return func(n *yaml.Node, at string) {
		var text string
		if n.Kind != yaml.ScalarNode {
			r.wrong(n, at, "want a duration such as 90s or 5m, got %s", describe(n))
		} else if text = n.Value; to.UnmarshalText([]byte(text)) != nil {
			r.wrong(n, at, "%q is not a duration: write a number and a unit, such as 90s, 5m or 1h30m", clip(text))
		}
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// describe names a node's kind and value, for an error about its type.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "an object"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return fmt.Sprintf("the alias *%s: plans have no aliases, write the value out", clip(n.Value))
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!str":
		return fmt.Sprintf("the text %q", clip(n.Value))
	case "!!int", "!!float":
		return "the number " + clip(n.Value)
	case "!!bool":
		return "the boolean " + clip(n.Value)
	case "!!timestamp":
		return "the date " + clip(n.Value)
	}
	return "the tag " + clip(n.ShortTag())
}

// quoteHint returns the fix if YAML does not read a bare word as text.
func quoteHint(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode {
		return ""
	}
	switch n.ShortTag() {
	case "!!int", "!!float", "!!bool", "!!timestamp":
		return fmt.Sprintf(": write it in quotes, %q", clip(n.Value))
	case "!!null":
		return `: write "" if it is meant to be empty`
	}
	return ""
}
