package planner

import "encoding/json"

// Bounds of what Names keeps.
const (
	maxDepth = 64
	maxText  = 1 << 12 // bytes of a name with its escapes
)

// Names finds the names of a plan's tasks in JSON that is still being written. It takes
// whatever comes: text that is not JSON has no names, or some.
type Names struct {
	Tasks []string

	open    []level
	text    []byte // of the string that is being read, with its quotes
	escaped bool   // the last byte began an escape
	inText  bool
}

// level is an object or a list that is not closed yet.
type level struct {
	list  bool
	key   string // of the value that is being read
	value bool   // the key has been read
}

// Write reads more of the JSON. It never fails.
func (n *Names) Write(b []byte) (int, error) {
	for _, c := range b {
		if n.inText {
			n.addText(c)
		} else {
			n.addToken(c)
		}
	}
	return len(b), nil
}

func (n *Names) addText(c byte) {
	if len(n.text) < maxText {
		n.text = append(n.text, c)
	}
	switch {
	case n.escaped:
		n.escaped = false
	case c == '\\':
		n.escaped = true
	case c == '"':
		n.inText = false
		n.endText()
	}
}

func (n *Names) addToken(c byte) {
	top := len(n.open) - 1
	switch c {
	case '"':
		n.inText, n.text = true, append(n.text[:0], c)
	case '{', '[':
		if top+1 < maxDepth {
			n.open = append(n.open, level{list: c == '['})
		}
	case '}', ']':
		if top >= 0 {
			n.open = n.open[:top]
		}
	case ':':
		if top >= 0 {
			n.open[top].value = true
		}
	case ',':
		if top >= 0 {
			n.open[top].value = false
		}
	}
}

// endText uses the string that has ended: a key, or the name of a task.
func (n *Names) endText() {
	var text string
	if len(n.open) == 0 || json.Unmarshal(n.text, &text) != nil {
		return
	}
	switch top := &n.open[len(n.open)-1]; {
	case top.list:
	case !top.value:
		top.key = text
	case len(n.open) == 3 && top.key == "name" && n.open[1].list && n.open[0].key == "tasks" && len(n.Tasks) < 1000:
		n.Tasks = append(n.Tasks, text)
	}
}
