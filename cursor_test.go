package buildcast

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestWhereACursorBegins(t *testing.T) {
	for _, test := range []struct {
		name        string
		start       Start
		first, last int64
		after       int64
		code        Code
	}{
		{"of nothing", Start{}, 1, 0, 0, ""},
		{"the first event", Start{}, 1, 7, 0, ""},
		{"the first that is kept", Start{}, 5, 7, 4, ""},
		{"of a deleted build", Start{}, 8, 7, 7, ""},
		{"inside", Start{After: 5}, 5, 7, 5, ""},
		{"right before the first", Start{After: 4}, 5, 7, 4, ""},
		{"gone", Start{After: 3}, 5, 7, 0, CursorGone},
		{"gone, of a deleted build", Start{After: 6}, 8, 7, 0, CursorGone},
		{"the end of a deleted build", Start{After: 7}, 8, 7, 7, ""},
		{"the end", Start{After: 7}, 1, 7, 7, ""},
		{"ahead", Start{After: 8}, 1, 7, 0, CursorAhead},
		{"ahead of nothing", Start{After: 1}, 1, 0, 0, CursorAhead},
		{"latest", Start{Latest: true}, 3, 7, 7, ""},
		{"latest of nothing", Start{Latest: true}, 1, 0, 0, ""},
		{"tail", Start{Tail: 2}, 1, 7, 5, ""},
		{"a tail that is cut", Start{Tail: 5}, 5, 7, 4, ""},
		{"a tail longer than the log", Start{Tail: 1000}, 1, 7, 0, ""},
		{"a tail beyond the limit", Start{Tail: 5000}, 1, 6000, 5000, ""},
		{"tail of a deleted build", Start{Tail: 3}, 8, 7, 7, ""},
	} {
		after, err := test.start.Within(test.first, test.last)
		if after != test.after || CodeOf(err) != test.code {
			t.Errorf("%s: after %d, %v", test.name, after, err)
		}
		if test.code == "" {
			continue
		}
		if e, ok := errors.AsType[*CursorError](err); !ok || e.FirstEventID != test.first || e.LastEventID != test.last {
			t.Errorf("%s: error %#v", test.name, err)
		}
		if hint := fmt.Sprintf("go on from %d", test.first-1); test.code == CursorGone && !strings.HasSuffix(err.Error(), hint) {
			t.Errorf("%s: %v, want %q", test.name, err, hint)
		}
		if e, ok := errors.AsType[*Error](err); !ok || e.Field != "lastEventId" {
			t.Errorf("%s: error %#v", test.name, err)
		}
	}
}
