package buildcast

import (
	"fmt"
	"time"
)

const timeLayout = "2006-01-02T15:04:05.000Z"

// Time is a point in time in UTC, cut to milliseconds. Its text and JSON form
// is RFC 3339 with exactly three decimals, so that equal times are equal bytes
// on every transport.
type Time struct{ t time.Time }

// TimeOf cuts t to the milliseconds that buildcast keeps.
func TimeOf(t time.Time) Time {
	if t.IsZero() {
		return Time{}
	}
	return Time{t.UTC().Truncate(time.Millisecond)}
}

// Now is the current time.
func Now() Time { return TimeOf(time.Now()) }

// Std is the time as the standard library's type.
func (t Time) Std() time.Time { return t.t }

// IsZero reports whether the time is not set.
func (t Time) IsZero() bool { return t.t.IsZero() }

// Equal reports whether both are the same instant.
func (t Time) Equal(u Time) bool { return t.t.Equal(u.t) }

func (t Time) String() string { return t.t.Format(timeLayout) }

// AppendText appends the RFC 3339 form.
func (t Time) AppendText(b []byte) ([]byte, error) { return t.t.AppendFormat(b, timeLayout), nil }

// MarshalText gives the RFC 3339 form.
func (t Time) MarshalText() ([]byte, error) { return t.AppendText(nil) }

// UnmarshalText reads any RFC 3339 time between the years 1970 and 9999.
func (t *Time) UnmarshalText(b []byte) error {
	p, err := time.Parse(time.RFC3339, string(b))
	if err != nil {
		return fmt.Errorf("%q is not an RFC 3339 time such as 2026-11-23T07:14:31.123Z", clip(string(b), 40))
	}
	p = p.UTC()
	if p.Year() < 1970 || p.Year() > 9999 {
		return fmt.Errorf("the time %q is outside the years 1970 to 9999", clip(string(b), 40))
	}
	*t = TimeOf(p)
	return nil
}
