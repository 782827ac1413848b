package buildcast

// MaxTail is the maximum of Start.Tail.
const MaxTail = 1000

// Start is where a cursor begins in a build's log. The zero value begins with the
// first event that is kept.
type Start struct {
	After  int64 // after the event with this id, the last one that was seen
	Latest bool  // with the next event that is appended
	Tail   int64 // with the last Tail events, 1 to MaxTail
}

// Within returns the id after which the cursor begins in a log that keeps the
// events from first to last; first is last+1 if it keeps none. The error is a
// *CursorError: the log no longer keeps the event after the cursor (CursorGone), or
// ends before the cursor (CursorAhead).
func (s Start) Within(first, last int64) (after int64, err error) {
	switch {
	case s.Latest:
		return last, nil
	case s.Tail > 0:
		return max(last-min(s.Tail, MaxTail), first-1), nil
	case s.After > last:
		return 0, NewCursorError(first, last, Errorf(CursorAhead,
			"lastEventId is %d, but the build's log ends at %d: start again from there", s.After, last))
	case s.After > 0 && s.After < first-1:
		return 0, NewCursorError(first, last, Errorf(CursorGone,
			"lastEventId is %d, but the build's log begins with event %d: the events between are no longer kept; go on from %d", s.After, first, first-1))
	}
	return max(s.After, first-1), nil
}

// CursorError reports that a cursor is outside its log, and where the log begins and
// ends. It wraps an *Error with CursorGone or CursorAhead.
type CursorError struct {
	FirstEventID int64 // the first event that is kept; LastEventID+1 if there is none
	LastEventID  int64 // the highest id that was ever assigned

	err *Error
}

// NewCursorError makes a CursorError of err, which is about the field lastEventId.
func NewCursorError(first, last int64, err *Error) *CursorError {
	return &CursorError{first, last, err.At("lastEventId")}
}

func (e *CursorError) Error() string { return e.err.Error() }

func (e *CursorError) Unwrap() error { return e.err }
