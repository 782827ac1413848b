package cli

import (
	"io"
	"os"
	"strings"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cli/verb"
)

// prompt is a prompt on the command line: the text, @FILE, or - for standard input.
type prompt string

// read returns the text. It checks it here, so that no server is started for nothing.
func (p prompt) read(s *verb.Session) (string, error) {
	text := string(p)
	var err error
	switch name, isFile := strings.CutPrefix(text, "@"); {
	case text == "-":
		text, err = readPrompt(s.Stdin)
	case isFile:
		var f *os.File
		if f, err = os.Open(name); err == nil {
			text, err = readPrompt(f)
			f.Close()
		}
	}
	if err != nil {
		return "", verb.Usage("--prompt: %v", err)
	}
	if err := buildcast.ValidatePrompt(text); err != nil {
		return "", &verb.ExitError{Code: verb.ExitUsage, Err: err}
	}
	return text, nil
}

// readPrompt reads no more than what shows that a prompt is too long.
func readPrompt(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, buildcast.MaxPrompt+2))
	return strings.TrimSuffix(string(b), "\n"), err
}
