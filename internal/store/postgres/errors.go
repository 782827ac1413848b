package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// SQLSTATE codes, https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	uniqueViolation      = "23505"
	diskFull             = "53100"
	classData            = "22" // the data is not to the server's taste
	classConstraint      = "23"
)

// unavailable tells what keeps the database from working. nil, the store's own
// errors and errors of the data stay as they are.
func unavailable(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*buildcast.Error](err); ok {
		return err
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok && errors.Is(err, context.DeadlineExceeded):
		return store.Unavailable(err, "the database does not answer")
	case !ok:
		return store.Unavailable(redacted(err), "the database cannot be reached")
	case e.Code[:2] == classData || e.Code[:2] == classConstraint:
		return err
	case e.Code == diskFull:
		return store.Unavailable(err, "the database's disk is full")
	default:
		return store.Unavailable(err, "the database refuses to work now")
	}
}

// again reports whether the transaction lost against another one and may be
// made again at once.
func again(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == serializationFailure || e.Code == deadlockDetected || e.Code == uniqueViolation)
}

// redacted keeps a connection URL out of what is logged: pgx quotes it, without
// its password as far as it can tell, when it cannot parse it.
func redacted(err error) error {
	if _, ok := errors.AsType[*pgconn.ParseConfigError](err); ok {
		return errors.New("it does not parse")
	}
	return err
}
