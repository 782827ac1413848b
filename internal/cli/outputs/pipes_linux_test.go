package outputs

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A pipe that the command made larger, as some programs do, is read to its end.
func TestAPipeThatTheCommandEnlarged(t *testing.T) {
	out, errs := newReceiver(t), newReceiver(t)
	var recorded bytes.Buffer
	o, err := Open(out.w, errs.w, func(_ Stream, piece []byte) { recorded.Write(piece) })
	if err != nil {
		t.Fatal(err)
	}
	end, _ := o.Ends()
	if _, err := unix.FcntlInt(end.Fd(), unix.F_SETPIPE_SZ, 64<<10); err != nil {
		t.Fatal(err)
	}
	for range 10 { // ten writes wait, and the end after them
		if _, err := end.WriteString("line\n"); err != nil {
			t.Fatal(err)
		}
	}
	o.Start()
	o.Wait(time.Minute)
	if got := out.all(); got != strings.Repeat("line\n", 10) || recorded.String() != got {
		t.Errorf("passed on %q, recorded %q", got, recorded.String())
	}
	errs.all()
}
