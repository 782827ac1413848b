package verb

import (
	"errors"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLinkReportsEachChangeOnce(t *testing.T) {
	var changes []bool
	l := &Link{Changed: func(lost bool) { changes = append(changes, lost) }}
	for _, level := range []slog.Level{slog.LevelInfo, slog.LevelWarn, slog.LevelWarn, slog.LevelInfo, slog.LevelInfo, slog.LevelWarn} {
		l.Logger().Log(t.Context(), level, "x")
	}
	if want := []bool{true, false, true}; !cmp.Equal(changes, want) {
		t.Errorf("changes %v", changes)
	}
}

func TestTimesInWords(t *testing.T) {
	for d, want := range map[time.Duration][2]string{
		-time.Minute:     {"now", "now"},
		time.Second:      {"now", "in 1s"},
		59 * time.Second: {"59s ago", "in 59s"},
		90 * time.Second: {"1m ago", "in 1m"},
		25 * time.Hour:   {"25h ago", "in 25h"},
		49 * time.Hour:   {"2d ago", "in 2d"},
	} {
		if got := [2]string{Ago(d), In(d)}; got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestPages(t *testing.T) {
	const items = 250
	asked := 0
	read := func(before string, n int) (page []int, next string, err error) {
		asked = max(asked, n)
		from, _ := strconv.Atoi(before)
		for i := from; i < min(from+n, items); i++ {
			page = append(page, i)
		}
		if end := from + len(page); end < items {
			next = strconv.Itoa(end)
		}
		return page, next, nil
	}
	for limit, want := range map[int]struct {
		count int
		more  bool
	}{1: {1, true}, 100: {100, true}, 249: {249, true}, 250: {250, false}, 1000: {250, false}} {
		all, more, err := Pages(limit, read)
		if len(all) != want.count || more != want.more || err != nil || all[len(all)-1] != want.count-1 {
			t.Errorf("limit %d: %d items, more %v, %v", limit, len(all), more, err)
		}
	}
	if asked > PageSize {
		t.Errorf("a request for %d items", asked)
	}
	broken := errors.New("broken")
	if _, _, err := Pages(1, func(string, int) ([]int, string, error) { return nil, "", broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}
