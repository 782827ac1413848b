package buildcast

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of one event.
const (
	MaxBuildID   = 26       // characters of a build id
	MaxEventType = 50       // characters of an event type
	MaxEventData = 64 << 10 // bytes of an event's data as JSON
	MaxEventKey  = 200      // bytes of an idempotency key
	maxDataDepth = 100      // nested arrays and objects in an event's data
	maxDigits    = 1000     // of a number in an event's data, before its exponent

	// EventOverhead is the approximate size of an event without its data, in memory
	// and on the wire, in bytes. Bounds in bytes count it for each event.
	EventOverhead = 200
)

// ReservedKeyPrefix begins the keys of the events that buildcast itself reports.
// Users' events must not have such keys: buildcast's own event with the same key
// would count as a repeat, and would not be stored.
const ReservedKeyPrefix = "buildcast:"

// The event types that buildcast itself reports. Any other type may be stored too.
const (
	PlanStarted     = "plan_started"
	PlanGenerated   = "plan_generated"
	TaskStarted     = "task_started"
	TaskCompleted   = "task_completed"
	TaskFailed      = "task_failed"
	DeployStarted   = "deploy_started"
	DeployProgress  = "deploy_progress"
	DeployCompleted = "deploy_completed"
	DeployFailed    = "deploy_failed"
	BuildStarted    = "build_started"
	BuildProgress   = "build_progress"
	BuildCompleted  = "build_completed"
	BuildFailed     = "build_failed"
	BuildCancelled  = "build_cancelled"

	// These change neither phase nor progress. BuildLog carries output lines,
	// PlanProgress the tasks that a planner has named so far, and PlannerUsage what one
	// answer of a planner took.
	BuildLog     = "build_log"
	PlanProgress = "plan_progress"
	PlannerUsage = "planner_usage"
)

// Event is one stored entry of a build's log. Ids are 1, 2, 3, … within a
// build, without gaps, in commit order.
type Event struct {
	ID        int64           `json:"id"`
	BuildID   string          `json:"buildId"`
	Type      string          `json:"type"`
	Data      json.RawMessage `json:"data"`
	Progress  int             `json:"progress"` // of the build after this event, 0-100
	Timestamp Time            `json:"timestamp"`
}

// NewEvent is an event before the log has taken it.
type NewEvent struct {
	Type string `json:"type"`
	// Data is any JSON value; absent or null means {}.
	Data json.RawMessage `json:"data,omitempty"`
	// Key makes the append idempotent: the same key again in the same build
	// returns the event that is already stored. Empty: no key.
	Key string `json:"key,omitempty"`
	// Timestamp is when it happened; zero means when it is stored.
	Timestamp Time `json:"timestamp,omitzero"`
}

// AppendJSON appends the event's JSON form. It is the one encoder of events:
// the bytes are the same on every transport.
func (e *Event) AppendJSON(b []byte) []byte {
	b = append(b, `{"id":`...)
	b = strconv.AppendInt(b, e.ID, 10)
	b = append(b, `,"buildId":"`...) // ids and types need no escaping: see ValidateBuildID
	b = append(b, e.BuildID...)
	b = append(b, `","type":"`...)
	b = append(b, e.Type...)
	b = append(b, `","data":`...)
	if len(e.Data) == 0 {
		b = append(b, "{}"...)
	} else {
		b = append(b, e.Data...)
	}
	b = append(b, `,"progress":`...)
	b = strconv.AppendInt(b, int64(e.Progress), 10)
	b = append(b, `,"timestamp":"`...)
	b, _ = e.Timestamp.AppendText(b)
	return append(b, `"}`...)
}

// MarshalJSON returns the form that AppendJSON appends.
func (e Event) MarshalJSON() ([]byte, error) {
	return e.AppendJSON(make([]byte, 0, EventOverhead+len(e.Data))), nil
}

// ValidateBuildID checks that id is 1 to 26 of [A-Za-z0-9_-].
func ValidateBuildID(id string) error {
	if len(id) == 0 || len(id) > MaxBuildID || !each(id, isIDByte) {
		return Errorf(InvalidArgument, "build id %q is not valid: use 1 to %d of A-Z a-z 0-9 _ -", clip(id, 40), MaxBuildID).At("buildId")
	}
	return nil
}

// ValidateEventType checks that typ is [a-z][a-z0-9_.-]{0,49}.
func ValidateEventType(typ string) error {
	if len(typ) == 0 || len(typ) > MaxEventType || typ[0] < 'a' || typ[0] > 'z' || !each(typ, isTypeByte) {
		return Errorf(InvalidArgument, "event type %q is not valid: start with a-z, then at most %d of a-z 0-9 _ . -", clip(typ, 60), MaxEventType-1).At("type")
	}
	return nil
}

// ValidateUserKey checks that the key is not reserved for buildcast itself.
func ValidateUserKey(key string) error {
	if strings.HasPrefix(key, ReservedKeyPrefix) {
		return Errorf(InvalidArgument, "key %q begins with %s, which is reserved for the events of buildcast itself: use another prefix", clip(key, 60), ReservedKeyPrefix).At("key")
	}
	return nil
}

// Validate checks the event against the limits and changes it to the form that is
// stored: absent data becomes {}, and data becomes one line.
func (e *NewEvent) Validate() error {
	if err := ValidateEventType(e.Type); err != nil {
		return err
	}
	if len(e.Key) > MaxEventKey || !utf8.ValidString(e.Key) || !each(e.Key, isPrintable) {
		return Errorf(InvalidArgument, "key is %d bytes: use at most %d bytes of UTF-8 without control characters", len(e.Key), MaxEventKey).At("key")
	}
	if len(e.Data) == 0 || string(e.Data) == "null" {
		e.Data = json.RawMessage("{}")
		return nil
	}
	if len(e.Data) > MaxEventData {
		return Errorf(TooLarge, "data is %d bytes, the limit is %d: send less, or split it over several events", len(e.Data), MaxEventData).At("data")
	}
	if err := validateData(e.Data); err != nil {
		return Errorf(InvalidArgument, "data %v", err).At("data")
	}
	// A line break between tokens would end a server-sent event in mid-data. JSON
	// has none within strings.
	if bytes.ContainsAny(e.Data, "\n\r") {
		var b bytes.Buffer
		if err := json.Compact(&b, e.Data); err != nil {
			return Errorf(InvalidArgument, "data is not valid JSON").At("data")
		}
		e.Data = b.Bytes()
	}
	return nil
}

// validateData checks that data is JSON that every store keeps as it is, and that
// casts to jsonb in Postgres: jsonb has no \u0000, no lone surrogates, no very deep
// nesting, and no numbers beyond the numeric type (131,072 digits before the point,
// 16,383 after it). Refused here, they are refused by both stores alike, and do not
// fail the transaction that they share with other events.
func validateData(data []byte) error {
	if !json.Valid(data) {
		return fmt.Errorf("is not valid JSON")
	}
	if !utf8.Valid(data) {
		return fmt.Errorf("is not valid UTF-8")
	}
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			n, err := scanString(data[i:])
			if err != nil {
				return err
			}
			i += n - 1
		case '{', '[':
			if depth++; depth > maxDataDepth {
				return fmt.Errorf("is nested deeper than %d levels", maxDataDepth)
			}
		case '}', ']':
			depth--
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			n, err := scanNumber(data[i:])
			if err != nil {
				return err
			}
			i += n - 1
		}
	}
	return nil
}

// scanNumber returns the length of the JSON number that s begins with. s is valid JSON.
func scanNumber(s []byte) (int, error) {
	digits, n := 0, 0
	for ; n < len(s) && s[n] != 'e' && s[n] != 'E' && isNumberByte(s[n]); n++ {
		if s[n] >= '0' {
			digits++
		}
	}
	if digits > maxDigits {
		return 0, fmt.Errorf("has a number of %d digits: the limit is %d, send longer ones as strings", digits, maxDigits)
	}
	exponent := n
	for n < len(s) && isNumberByte(s[n]) {
		n++
	}
	if n-exponent > len("e9999") {
		return 0, fmt.Errorf("has a number whose exponent is too large: keep it between -999 and 9999")
	}
	return n, nil
}

func isNumberByte(c byte) bool {
	return c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'
}

// scanString returns the length of the JSON string that s begins with. s is valid JSON.
func scanString(s []byte) (int, error) {
	high := false // the last character was an unpaired high surrogate
	for i := 1; i < len(s); i++ {
		c := s[i]
		if c == '\\' && s[i+1] == 'u' {
			r, _ := strconv.ParseUint(string(s[i+2:i+6]), 16, 16)
			low := r >= 0xDC00 && r < 0xE000
			if r == 0 {
				return 0, fmt.Errorf(`contains \u0000, which cannot be stored: leave it out`)
			}
			if low != high {
				return 0, fmt.Errorf("contains half of a surrogate pair: send valid Unicode")
			}
			high = r >= 0xD800 && r < 0xDC00
			i += 5
			continue
		}
		if high {
			return 0, fmt.Errorf("contains half of a surrogate pair: send valid Unicode")
		}
		switch c {
		case '\\':
			i++
		case '"':
			return i + 1, nil
		}
	}
	return len(s), nil
}
