package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/filelock"
)

// Files of the data directory that belong to this package.
const (
	lockFile  = "lock"
	ownerFile = "owner"
	infoFile  = "server.json"
)

// dataDir is a data directory that this process has locked.
type dataDir struct {
	path string
	// owner names this directory as the owner of leases. It stays the same over
	// restarts, so that a server resumes its own builds at once.
	owner string
	lock  *os.File
}

// openDataDir creates the directory if it does not exist, and locks it. A crash
// leaves no lock behind.
func openDataDir(path string) (*dataDir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, dirError(path, "cannot be found", err)
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return nil, dirError(path, "cannot be created", err)
	}
	if err := checkMode(abs); err != nil {
		return nil, err
	}
	lock, err := filelock.Take(filepath.Join(abs, lockFile), func() int { return lastServer(abs) })
	if err != nil {
		return nil, inUse(path, err)
	}
	d := &dataDir{path: abs, lock: lock}
	if d.owner, err = readOwner(filepath.Join(abs, ownerFile)); err != nil {
		d.close()
		return nil, dirError(path, "cannot be written", err)
	}
	return d, nil
}

// LockDataDir keeps servers from using the data directory until unlock is called. It
// fails with Conflict if one uses it.
func LockDataDir(path string) (unlock func(), err error) {
	d, err := openDataDir(path)
	if err != nil {
		return nil, err
	}
	return d.close, nil
}

// checkMode refuses a directory in which other users may write: they could replace
// the server's files, and add commands to builds.
func checkMode(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return dirError(path, "cannot be read", err)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return buildcast.Errorf(buildcast.InvalidArgument, "the data directory %s may be written by other users (its mode is %#o): "+
			"run `chmod go-w %s`, or name a directory inside it with --data-dir, which buildcast creates", path, mode, path).At("--data-dir")
	}
	return nil
}

// lastServer returns the process id of the directory's last server; 0 if it is
// unknown.
func lastServer(path string) int {
	info, err := ReadInfo(path)
	if err != nil {
		return 0
	}
	return info.PID
}

func inUse(path string, cause error) error {
	if !errors.Is(cause, filelock.ErrHeld) {
		return dirError(path, "cannot be written", cause)
	}
	who := "another buildcast"
	if info, err := ReadInfo(path); err == nil {
		who = fmt.Sprintf("the server at %s (pid %d)", info.URL, info.PID)
	}
	return buildcast.Errorf(buildcast.Conflict, "the data directory %s is in use by %s: use that server, stop it, or name another directory with --data-dir", path, who)
}

func dirError(path, what string, cause error) error {
	if pe, ok := errors.AsType[*fs.PathError](cause); ok {
		cause = pe.Err // the message names the path already
	}
	return buildcast.Errorf(buildcast.InvalidArgument, "the data directory %s %s (%v): make it writable for this user, or name another one with --data-dir", path, what, cause).At("--data-dir")
}

// readOwner returns the directory's owner id. The first call creates it.
func readOwner(path string) (string, error) {
	b, err := os.ReadFile(path)
	if owner := strings.TrimSpace(string(b)); err == nil && owner != "" {
		return owner, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	owner := ulid.Make().String()
	return owner, writeFile(path, []byte(owner+"\n"))
}

// writeFile replaces the file as a whole, so that a reader never sees half of it.
func writeFile(path string, content []byte) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

func (d *dataDir) close() { d.lock.Close() }

// Info describes a running server to the CLI. The server writes it to its data
// directory.
type Info struct {
	URL        string `json:"url"` // on this machine
	PublicURL  string `json:"publicUrl"`
	PreviewURL string `json:"previewUrl"`
	PID        int    `json:"pid"`
}

// ReadInfo returns the Info that the data directory's server wrote. After a crash it
// may be out of date: check the URL before you trust it.
func ReadInfo(dataDir string) (Info, error) {
	var info Info
	b, err := os.ReadFile(filepath.Join(dataDir, infoFile))
	if err != nil {
		return info, err
	}
	return info, json.Unmarshal(b, &info)
}

func (d *dataDir) writeInfo(info Info) error {
	b, err := json.Marshal(info)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(d.path, infoFile), append(b, '\n'))
}

func (d *dataDir) removeInfo() error {
	err := os.Remove(filepath.Join(d.path, infoFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
