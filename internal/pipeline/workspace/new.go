package workspace

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
)

// Contents are what a workspace began with. They are stored with it.
type Contents struct {
	// After is the last event of the build's log when the workspace was made. It has the
	// files of what was completed later, and of what is in Taken.
	After int64 `json:"after,omitempty"`
	// Taken are the steps of another build, whose files were copied.
	Taken []Step `json:"taken,omitempty"`
	// Commands are those that the other build has found for its stages.
	Commands map[string]string `json:"commands,omitempty"`
}

// Step is a completed task or stage.
type Step struct {
	Task       string `json:"task,omitempty"`
	Stage      string `json:"stage,omitempty"`
	BuildID    string `json:"buildId"` // of the build that ran it
	DurationMS int64  `json:"durationMs"`
}

// New is a workspace that is being made. It is empty.
type New struct {
	base, dir string
}

// ErrGone is the error for a workspace that does not exist here, or no longer.
var ErrGone = errors.New("the workspace is no longer on this machine")

// Look returns the contents of base/name; ErrGone unless it is the owner's, and can be
// trusted.
func Look(base, name string, owner Owner) (Contents, error) {
	m, err := readMeta(filepath.Join(base, name))
	if err != nil || !m.of(owner) {
		return Contents{}, ErrGone
	}
	return m.Contents, nil
}

// Copy copies the files of the owner's workspace, which no process may use now: the
// workspace itself and HOME, not TMPDIR. It copies everything or nothing. The error is
// ErrGone if the workspace does not exist, or was removed meanwhile.
func (n *New) Copy(ctx context.Context, name string, owner Owner) error {
	err := n.copy(ctx, filepath.Join(n.base, name))
	if err == nil {
		// Whoever removes a workspace renames it first.
		_, err = Look(n.base, name, owner)
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrNotExist) {
		err = errors.Join(ErrGone, err)
	}
	return errors.Join(err, removeAll(n.dir), makeDirs(n.dir))
}

func (n *New) copy(ctx context.Context, from string) error {
	c := &copier{ctx: ctx, clone: true}
	for _, name := range []string{workDir, homeDir} {
		in, err := openSub(from, name)
		if name == homeDir && err != nil {
			continue // a command has removed it
		}
		if err != nil {
			return err
		}
		err = c.copyInto(in, filepath.Join(n.dir, name))
		if err := errors.Join(err, in.Close()); err != nil {
			return err
		}
	}
	return nil
}

// complete writes the meta file: a workspace without one is incomplete, and is
// replaced.
func (n *New) complete(m meta) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	temp := filepath.Join(n.dir, metaFile+".new")
	if err := os.WriteFile(temp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(n.dir, metaFile))
}
