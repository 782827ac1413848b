package sqlite

import (
	"errors"
	"io/fs"
	"os"
)

// privateMode is the mode of the database's files: events may hold secrets.
const privateMode = 0o600

// makePrivate creates the database file, and lets only its owner read and write it.
// SQLite gives -wal and -shm the mode of the database file. makePrivate also corrects
// the files that an earlier server has left.
func makePrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, privateMode)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return err
		}
		if info.Mode().Perm()&^privateMode == 0 {
			continue
		}
		if err := os.Chmod(name, privateMode); err != nil {
			return err
		}
	}
	return nil
}
