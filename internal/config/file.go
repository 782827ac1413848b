package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v4"

	"github.com/buildcast/buildcast"
)

// DefaultFile is read if --config names no other and it exists.
const DefaultFile = "buildcast.yaml"

// File is a configuration file: a YAML mapping from flags' names to values. It
// resolves flags that neither the command line nor the environment sets.
type File struct {
	path   string
	values map[string]setting
}

type setting struct {
	text any // string, or []any of strings: a flag's words
	line int
}

var _ kong.Resolver = (*File)(nil)

// ReadFile reads the file at path. Errors are *buildcast.Error, with the line
// if there is one, and never show a value: it may be a secret.
func ReadFile(path string) (*File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, buildcast.Errorf(buildcast.InvalidArgument, "%s: cannot read the configuration file", path).At("--config").Because(errors.Unwrap(err))
	}
	return parseFile(path, data)
}

func parseFile(path string, data []byte) (*File, error) {
	f := &File{path: path, values: map[string]setting{}}
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		return nil, f.bad(1, "not valid YAML")
	}
	var doc, second yaml.Node
	if err := loader.Load(&doc); errors.Is(err, io.EOF) {
		return f, nil // nothing, or comments only
	} else if err != nil {
		return nil, f.notYAML(err)
	}
	if err := loader.Load(&second); err == nil {
		return nil, f.bad(second.Line, "a second document begins here: the file holds one")
	} else if !errors.Is(err, io.EOF) {
		return nil, f.notYAML(err)
	}
	root := &doc
	if root.Kind == yaml.DocumentNode && len(root.Content) > 0 {
		root = root.Content[0]
	}
	if root.Kind == 0 || root.Tag == "!!null" {
		return f, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, f.bad(root.Line, "the file is not a mapping: write lines such as `listen: %s`", DefaultListen)
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if err := f.add(root.Content[i], root.Content[i+1]); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *File) add(key, value *yaml.Node) error {
	if earlier, ok := f.values[key.Value]; ok {
		return f.bad(key.Line, "%s is set in line %d already", key.Value, earlier.line)
	}
	s := setting{line: key.Line}
	switch value.Kind {
	case yaml.ScalarNode:
		if value.Tag != "!!null" { // an empty value leaves the default
			s.text = value.Value
		}
	case yaml.SequenceNode:
		words := []any{}
		for _, item := range value.Content {
			if item.Kind != yaml.ScalarNode {
				return f.bad(item.Line, "%s holds more than plain values", key.Value)
			}
			words = append(words, item.Value)
		}
		s.text = words
	default:
		return f.bad(value.Line, "%s is not a plain value or a list of them", key.Value)
	}
	f.values[key.Value] = s
	return nil
}

// Validate refuses names that are not a flag of any command: silently ignoring a
// misspelt setting would be worse than an error.
func (f *File) Validate(app *kong.Application) error {
	known := map[string]bool{}
	collect(app.Node, known)
	delete(known, "config")
	for name, s := range f.values {
		if !known[name] {
			return f.bad(s.line, "%q is not a setting%s", name, nearest(name, known))
		}
	}
	return nil
}

func collect(node *kong.Node, known map[string]bool) {
	for _, flag := range node.Flags {
		known[flag.Name] = flag.Name != "help"
	}
	for _, child := range node.Children {
		collect(child, known)
	}
}

// nearest suggests the name that was most likely meant: the same letters in
// another style, or one that begins alike.
func nearest(name string, known map[string]bool) string {
	plain := func(s string) string {
		return strings.NewReplacer("-", "", "_", "", ".", "").Replace(strings.ToLower(s))
	}
	var names []string
	for k, ok := range known {
		if ok && (plain(k) == plain(name) || strings.HasPrefix(plain(k), plain(name)) || strings.HasPrefix(plain(name), plain(k))) {
			names = append(names, k)
		}
	}
	if len(names) == 0 {
		return ": `buildcast serve --help` lists them"
	}
	return fmt.Sprintf(": did you mean %s?", slices.Min(names))
}

// Resolve returns the file's value for the flag, unless the environment sets it.
func (f *File) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		if _, ok := os.LookupEnv(name); ok {
			return nil, nil
		}
	}
	return f.values[flag.Name].text, nil
}

// notYAML reports where the parser stopped, without the text there: it may be a secret.
func (f *File) notYAML(err error) error {
	line := 1
	if e, ok := errors.AsType[*yaml.LoadError](err); ok {
		line = max(line, e.Mark.Line)
	}
	return f.bad(line, "not valid YAML")
}

func (f *File) bad(line int, format string, args ...any) error {
	return buildcast.Errorf(buildcast.InvalidArgument, "%s:%d: %s", f.path, line, fmt.Sprintf(format, args...)).At("--config")
}
