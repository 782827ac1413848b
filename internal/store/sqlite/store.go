// Package sqlite stores builds and their logs in one SQLite file: WAL, every commit
// synced except those of MoveCursors, one writing connection beside a pool of readers.
//
// The file belongs to one process: a second one cannot open it.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	_ "modernc.org/sqlite" // the driver

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/filelock"
	"github.com/buildcast/buildcast/internal/store"
)

var (
	_ store.Store  = (*Store)(nil)
	_ store.Cutter = (*Store)(nil)
)

const readers = 8

// Store is a store.Store in one file.
type Store struct {
	lock  *os.File
	write *sql.DB // one connection
	read  *sql.DB
	stmts statements
	path  string

	damage walDamage // found when the file was opened

	// changing is held by appends, and by changes of the fields below or of the rows
	// that they cache.
	changing  sync.Mutex
	rows      rows
	followers []buildcast.Endpoint // the enabled endpoints
}

// Open opens the database file and brings its schema up to date. It creates the file
// and its directory if they do not exist.
func Open(ctx context.Context, path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the data directory %s: %w; choose another with --data-dir", filepath.Dir(path), err)
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}
	s := &Store{lock: lock, path: path, rows: rows{}}
	if err := s.open(ctx, path); err != nil {
		s.Close()
		return nil, fmt.Errorf("cannot open the database %s: %w", path, err)
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, path string) (err error) {
	if err := makePrivate(path); err != nil {
		return err
	}
	if s.damage, err = inspectWAL(path + "-wal"); err != nil {
		return err
	}
	if s.damage.commits > 0 {
		if s.damage.copy, err = keepDamagedWAL(path + "-wal"); err != nil {
			return fmt.Errorf("its write-ahead log is damaged and cannot be copied to keep it: %w", err)
		}
	}
	pragmas := "?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)&_pragma=synchronous(full)&_pragma=cache_size(-16000)"
	file := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}).String()
	if s.write, err = sql.Open("sqlite", file+pragmas); err != nil {
		return err
	}
	s.write.SetMaxOpenConns(1)
	if err := migrateUp(ctx, s.write); err != nil {
		return err
	}
	// Empty the log: inspectWAL could take frames of earlier processes for damage the
	// next time.
	if _, err := s.write.ExecContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
		return err
	}
	if s.read, err = sql.Open("sqlite", file+"?_pragma=busy_timeout(5000)&_pragma=query_only(true)&_pragma=cache_size(-4000)"); err != nil {
		return err
	}
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	if s.followers, err = enabledEndpoints(ctx, s.read); err != nil {
		return err
	}
	return s.prepare(ctx)
}

// lockFile takes the lock that keeps other processes from opening the database.
func lockFile(path string) (*os.File, error) {
	f, err := filelock.Take(path, func() int { return holder(path) })
	switch {
	case errors.Is(err, filelock.ErrHeld):
		return nil, fmt.Errorf("%s is in use by another buildcast (pid %d): stop it, choose another --data-dir, or use Postgres (--database) to run several",
			strings.TrimSuffix(path, ".lock"), holder(path))
	case err != nil:
		return nil, fmt.Errorf("cannot write in the data directory: %w; choose another with --data-dir", err)
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(fmt.Sprintln(os.Getpid())), 0)
	}
	return f, nil
}

// holder returns the id of the process that the lock file names; 0 if it names none.
func holder(path string) int {
	text, _ := os.ReadFile(path)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

// Ping reports whether the store can write now. It commits some pages and deletes
// them again: on a full disk a smaller write could succeed although appends fail.
func (s *Store) Ping(ctx context.Context) error {
	if _, err := s.write.ExecContext(ctx, `INSERT OR REPLACE INTO probe (id, filler) VALUES (1, randomblob(32768))`); err != nil {
		return unavailable(ctx, err)
	}
	_, err := s.write.ExecContext(ctx, `DELETE FROM probe`)
	return unavailable(ctx, err)
}

// Warning tells what was wrong with the file when it was opened; empty: nothing.
func (s *Store) Warning() string {
	if s.damage.commits == 0 {
		return ""
	}
	return s.damage.String()
}

// Close closes the file and releases its lock. Calls under way fail.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(append(errs, s.lock.Close())...)
}
