package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
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
	classData            = "22" // invalid data
	classLimits          = "54" // too large or too complex
)

// errNoAnswer is the cause when a call's own deadline ends it.
var errNoAnswer = errors.New("no answer within the time of a call")

// bounded returns the context of one call.
func (s *Store) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, s.timeout, errNoAnswer)
}

// unavailable converts an error of a call that has committed nothing. It returns nil
// and the store's own errors as they are.
func unavailable(ctx context.Context, err error) error { return failed(ctx, err, store.Unavailable) }

// uncommitted converts the error of a commit, or of a statement that commits by
// itself. Nothing is stored if the commit was never sent, or if the server answered
// with an ERROR. A FATAL answer may come after the commit.
func uncommitted(ctx context.Context, err error) error {
	if pgconn.SafeToRetry(err) {
		return failed(ctx, err, store.Unavailable)
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Severity == "ERROR" {
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
	e, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok && (errors.Is(context.Cause(ctx), errNoAnswer) || ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded)): // a connection's own deadline
		return outcome(err, "the database does not answer")
	case !ok && ctx.Err() != nil:
		return store.GivenUp(ctx)
	case !ok:
		return outcome(redacted(err), "the database cannot be reached")
	case e.Code[:2] == classData || e.Code[:2] == classLimits:
		return store.Refused(err, "data")
	case e.Code == diskFull:
		return outcome(err, "the database's disk is full")
	default:
		return outcome(err, "the database has answered with an error")
	}
}

// exec runs a statement that commits by itself.
func (s *Store) exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return pgconn.CommandTag{}, unavailable(ctx, err)
	}
	defer conn.Release()
	tag, err := conn.Exec(ctx, query, args...)
	return tag, uncommitted(ctx, err)
}

// inTx runs do in a transaction, and repeats it if it conflicts with another one.
func (s *Store) inTx(ctx context.Context, do func(context.Context, pgx.Tx) error) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	for n := 1; ; n++ {
		committing := false
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			err := do(ctx, tx)
			committing = err == nil
			return err
		})
		switch {
		case err != nil && n < attempts && again(err):
		case committing:
			return uncommitted(ctx, err)
		default:
			return unavailable(ctx, err)
		}
	}
}

// again reports whether the transaction conflicts with another one and may be
// repeated at once.
func again(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == serializationFailure || e.Code == deadlockDetected || e.Code == uniqueViolation)
}

// redacted keeps a connection URL out of the log. If pgx cannot parse the URL, its
// error quotes it, and hides the password only if it recognizes it.
func redacted(err error) error {
	if _, ok := errors.AsType[*pgconn.ParseConfigError](err); ok {
		return errors.New("it does not parse")
	}
	return err
}
