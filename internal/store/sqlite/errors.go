package sqlite

import (
	"errors"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// unavailable tells what keeps the database from working. nil and the store's
// own errors stay as they are.
func unavailable(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*buildcast.Error](err); ok {
		return err
	}
	what := "the database does not answer"
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() & 0xff { // the primary code
		case sqlite3.SQLITE_FULL:
			what = "the disk is full"
		case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
			what = "the database file cannot be written"
		case sqlite3.SQLITE_IOERR:
			what = "the disk reports an error"
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			what = "the database file is damaged"
		}
	}
	return store.Unavailable(err, what)
}
