package buildcast

import (
	"errors"
	"fmt"
	"time"
)

// Code names what went wrong. Codes are stable: clients branch on them.
type Code string

// The codes. internal/httpapi maps each to an HTTP status.
const (
	InvalidArgument  Code = "invalid_argument"  // a field is wrong; Field says which
	TooLarge         Code = "too_large"         // a limit was passed; the message says which and what it is
	Unauthenticated  Code = "unauthenticated"   // no key, or a wrong one
	PermissionDenied Code = "permission_denied" // not with this key, or not from this origin
	NotFound         Code = "not_found"         // no such build, event or endpoint
	Conflict         Code = "conflict"          // the build exists and differs
	NotFinished      Code = "not_finished"      // only a finished build can be deleted
	CursorAhead      Code = "cursor_ahead"      // lastEventId is beyond the log's end
	CursorGone       Code = "cursor_gone"       // events after lastEventId are no longer kept
	Fenced           Code = "fenced"            // the build's lease has moved on to another owner
	Overloaded       Code = "overloaded"        // too much is waiting; try again after RetryAfter
	StoreUnavailable Code = "store_unavailable" // the message says whether it may be stored; try again, with the same key, after RetryAfter
	Unreachable      Code = "unreachable"       // no answer: the request may or may not have been carried out
	NoPlanner        Code = "no_planner"        // a prompt was sent and no planner is configured
	PlanningFailed   Code = "planning_failed"   // the planner made no plan; the message says why
	Internal         Code = "internal"          // a defect of buildcast
)

// Error is the one error type of buildcast's own failures.
type Error struct {
	Code    Code
	Message string // what is wrong, the limit, and the fix; for people
	Field   string // the input it is about, such as data or tasks[2].run; may be empty
	// RetryAfter is how long to wait before a repeat; zero: not known. Whether a repeat
	// helps at all is a property of the code: see Code.Temporary.
	RetryAfter time.Duration
	Err        error // the cause, for logs only: never shown to clients
}

// Errorf makes an Error with a message for people.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// At sets the field that the error is about.
func (e *Error) At(field string) *Error { e.Field = field; return e }

// After sets how long to wait before a repeat.
func (e *Error) After(d time.Duration) *Error { e.RetryAfter = d; return e }

// Because sets the cause, for logs.
func (e *Error) Because(err error) *Error { e.Err = err; return e }

func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %v", e.Message, e.Err)
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the first Error in err's chain; Internal for any other error, "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}

// Describe returns what clients may see of an error: its code, a text for people and
// the field that it is about. An error without an *Error is a defect, and clients do
// not see its text.
func Describe(err error) (code Code, message, field string) {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code, e.Message, e.Field
	}
	return Internal, "something went wrong inside buildcast; its log says what", ""
}

// Temporary reports whether the same call may succeed later without a change.
func (c Code) Temporary() bool { return c == StoreUnavailable || c == Overloaded || c == Unreachable }

// Temporary reports whether the call that failed with err may succeed later
// without a change. It is a property of the error's code.
func Temporary(err error) bool { return CodeOf(err).Temporary() }
