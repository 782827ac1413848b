package sqlite

import (
	"context"
	"errors"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// unavailable converts an error of a call that has committed nothing. It returns nil
// and the store's own errors as they are.
func unavailable(ctx context.Context, err error) error { return failed(ctx, err, store.Unavailable) }

// uncommitted converts the error of a commit. SQLite finds a full disk before it
// writes anything; after any other error a part of the commit may be in the
// write-ahead log.
func uncommitted(ctx context.Context, err error) error {
	if primaryCode(err) == sqlite3.SQLITE_FULL {
		return failed(ctx, err, store.Unavailable)
	}
	return failed(ctx, err, store.Uncertain)
}

func failed(ctx context.Context, err error, outcome func(error, string) error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*buildcast.Error](err); ok {
		return err
	}
	code := primaryCode(err)
	if ctx.Err() != nil && (code == 0 || code == sqlite3.SQLITE_INTERRUPT) {
		return store.GivenUp(ctx)
	}
	what := "the database does not answer"
	switch code {
	case sqlite3.SQLITE_FULL:
		what = "the disk is full"
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		what = "the database file cannot be written"
	case sqlite3.SQLITE_IOERR:
		what = "the disk reports an error"
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		what = "the database file is damaged"
	case sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH:
		return store.Refused(err, "data")
	}
	return outcome(err, what)
}

// primaryCode returns the primary result code; 0 if the error is not SQLite's.
func primaryCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}
