package counts

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A step's upper end is what a quantile tells: within a fifth above the truth.
func TestSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(int64(100*time.Microsecond), int64(time.Minute)).Draw(t, "ns"))
		got, real := milliseconds(step(d)), float64(d.Microseconds())/1000
		if got < real*0.99 || got > real*1.22 {
			t.Fatalf("%v is told as %v ms", d, got)
		}
	})
}
