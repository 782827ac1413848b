package buildcast

import (
	"fmt"
	"time"
)

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

// Now returns the current time.
func Now() Time { return TimeOf(time.Now()) }

// Std returns the time as the standard library's type.
func (t Time) Std() time.Time { return t.t }

// IsZero reports whether the time is not set.
func (t Time) IsZero() bool { return t.t.IsZero() }

// Equal reports whether both are the same instant.
func (t Time) Equal(u Time) bool { return t.t.Equal(u.t) }

func (t Time) String() string {
	b, _ := t.AppendText(nil)
	return string(b)
}

// AppendText appends the RFC 3339 form. It writes the digits itself: with
// AppendFormat the time would be most of the cost of encoding an event.
func (t Time) AppendText(b []byte) ([]byte, error) {
	year, month, day := t.t.Date()
	hour, minute, second := t.t.Clock()
	b = digits(b, year, 4)
	b = digits(append(b, '-'), int(month), 2)
	b = digits(append(b, '-'), day, 2)
	b = digits(append(b, 'T'), hour, 2)
	b = digits(append(b, ':'), minute, 2)
	b = digits(append(b, ':'), second, 2)
	b = digits(append(b, '.'), t.t.Nanosecond()/1e6, 3)
	return append(b, 'Z'), nil
}

// digits appends n as exactly width decimal digits.
func digits(b []byte, n, width int) []byte {
	at := len(b)
	b = append(b, "0000"[:width]...)
	for i := width - 1; i >= 0; i-- {
		b[at+i] = byte('0' + n%10)
		n /= 10
	}
	return b
}

// MarshalText returns the RFC 3339 form.
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
