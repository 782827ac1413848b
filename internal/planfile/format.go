package planfile

import (
	"bytes"
	"encoding/json"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/buildcast/buildcast"
)

// Format returns the plan as a plan file in YAML. Texts of several lines are blocks, as
// people write them. What YAML cannot hold in that way is written as JSON, which is a
// plan file too.
func Format(p *buildcast.Plan) ([]byte, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	r := &reader{file: "plan.json"}
	root := r.parseJSON(text)
	if root == nil {
		return nil, r.err()
	}
	asBlocks(root)
	file, err := yaml.Dump(root, yaml.WithV4Defaults(), yaml.WithLineWidth(-1))
	if err == nil && sameAs(p, file) {
		return file, nil
	}
	text, err = json.MarshalIndent(p, "", "  ")
	return append(text, '\n'), err
}

// asBlocks sets the styles of the node and of all below it.
func asBlocks(n *yaml.Node) {
	n.Style = 0
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" && strings.Contains(n.Value, "\n") {
		n.Style = yaml.LiteralStyle
	}
	for _, below := range n.Content {
		asBlocks(below)
	}
}

// sameAs reports whether the file is read as the plan. The emitter of YAML has corners,
// such as blocks that begin with spaces.
func sameAs(p *buildcast.Plan, file []byte) bool {
	r := &reader{file: "plan.yaml", budget: MaxFromSize, at: make(map[string]position)}
	root := r.parse(file)
	if root == nil {
		return false
	}
	read := r.plan(root)
	if r.err() != nil {
		return false
	}
	was, errWas := json.Marshal(p)
	is, errIs := json.Marshal(read)
	return errWas == nil && errIs == nil && bytes.Equal(was, is)
}
