package storetest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pgtest"
	"github.com/buildcast/buildcast/internal/store"
	"github.com/buildcast/buildcast/internal/store/postgres"
	"github.com/buildcast/buildcast/internal/store/sqlite"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	generatedEvents = 100_000
	chunkEvents     = 2_000
)

// Both stores accept or refuse the same generated events and return the same bytes,
// and every stored event casts to jsonb. An event that cannot be stored is refused
// before it reaches a store, with the name of the field.
func TestStoresAgree(t *testing.T) {
	url := pgtest.URL(t)
	pg, err := postgres.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pg.Close()
	lite, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "b.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer lite.Close()
	stores := []store.Store{lite, pg}

	taken, refused := 0, 0
	for chunk := range generatedEvents / chunkEvents {
		g := &generator{rand.New(rand.NewPCG(7, uint64(chunk)))}
		build := fmt.Sprint("b", chunk)
		var events []buildcast.NewEvent
		for range chunkEvents {
			e := g.event()
			sent := string(e.Data)
			err := e.Validate()
			if err == nil {
				if taken++; string(e.Data) != sent && !strings.ContainsAny(sent, "\n\r") && sent != "" && sent != "null" {
					t.Fatalf("chunk %d: %.200q is taken as %.200q", chunk, sent, e.Data)
				}
				events = append(events, e)
				continue
			}
			refused++
			code, _, field := buildcast.Describe(err)
			if code != buildcast.InvalidArgument && code != buildcast.TooLarge || field != "data" && field != "key" && field != "type" {
				t.Fatalf("chunk %d: %.200q: %v at %q", chunk, sent, err, field)
			}
		}
		compare(t, stores, build, events)
		if t.Failed() {
			t.Fatalf("chunk %d", chunk)
		}
	}
	if taken < generatedEvents/3 || refused < generatedEvents/10 {
		t.Errorf("%d events were taken and %d refused: the generator makes too few of one kind", taken, refused)
	}
	wantCasts(t, url)
}

// compare appends the events to both stores and compares what both answer and return.
func compare(t *testing.T, stores []store.Store, build string, events []buildcast.NewEvent) {
	t.Helper()
	var answers, logs [2][]buildcast.Event
	var both errgroup.Group
	for i, s := range stores {
		both.Go(func() error {
			answered, err := s.AppendEvents(t.Context(), []store.Append{{BuildID: build, Events: events}})
			if err != nil {
				return culprit(t.Context(), s, events, err)
			}
			answers[i] = answered[0].Events
			logs[i], err = s.ReadEvents(t.Context(), build, 0, len(events), 1<<30)
			return err
		})
	}
	if err := both.Wait(); err != nil {
		t.Fatal(err)
	}
	for i := range events {
		if one, other := answers[0][i], answers[1][i]; one.ID != other.ID || one.Type != other.Type || one.Progress != other.Progress {
			t.Fatalf("key %q: answered %+v and %+v", events[i].Key, one, other)
		}
		if e := answers[0][i]; e.Data != nil && string(e.Data) != string(events[i].Data) {
			t.Fatalf("%.200q is answered as %.200q", events[i].Data, e.Data)
		}
	}
	if len(logs[0]) != len(logs[1]) {
		t.Fatalf("%d and %d events are stored", len(logs[0]), len(logs[1]))
	}
	sent := map[int64]string{}
	for i, e := range answers[0] {
		if e.Data != nil {
			sent[e.ID] = string(events[i].Data)
		}
	}
	for i, one := range logs[0] {
		other := logs[1][i]
		if string(one.Data) != sent[one.ID] || string(other.Data) != sent[one.ID] || one.Type != other.Type || one.ID != other.ID || one.Progress != other.Progress {
			t.Fatalf("%.200q is read as %.200q and %.200q", sent[one.ID], one.Data, other.Data)
		}
	}
}

// culprit finds the first event that a store refuses.
func culprit(ctx context.Context, s store.Appender, events []buildcast.NewEvent, err error) error {
	for _, e := range events {
		if _, err := s.AppendEvents(ctx, []store.Append{{BuildID: "culprit", Events: []buildcast.NewEvent{e}}}); err != nil {
			return fmt.Errorf("%T: type %q, key %q, data %.300q: %w", s, e.Type, e.Key, e.Data, err)
		}
	}
	return err
}

// wantCasts fails unless every stored event casts to jsonb.
func wantCasts(t *testing.T, url string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var n int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM project_build_events WHERE event_data::jsonb IS NOT NULL`).Scan(&n); err != nil || n == 0 {
		t.Errorf("%d events cast to jsonb: %v", n, err)
	}
}

// generator makes events; about a third of them cannot be stored.
type generator struct{ *rand.Rand }

func (g *generator) event() buildcast.NewEvent {
	e := buildcast.NewEvent{Type: "step", Data: []byte(g.data())}
	switch g.IntN(20) {
	case 0:
		e.Type = g.pick(buildcast.PlanGenerated, buildcast.TaskStarted, buildcast.DeployProgress, "a", "a_b.c-9", strings.Repeat("t", 50))
	case 1:
		e.Type = g.pick("", "A", "é", "a b", "9", strings.Repeat("t", 51), "a\x00")
	case 2, 3, 4:
		e.Key = g.pick("k", "K", "k ", "ḱ", "k\u0301", "\U0001f600", strings.Repeat("k", 200), "'", `\`, "%", "\u2028") + fmt.Sprint(g.IntN(30))
	case 5:
		e.Key = g.pick("\x00", "a\nb", "\xff", strings.Repeat("k", 201), "\x7f")
	}
	return e
}

func (g *generator) pick(of ...string) string { return of[g.IntN(len(of))] }

// data is a JSON text, or nearly one.
func (g *generator) data() string {
	switch g.IntN(40) {
	case 0: // nested up to, and beyond, the limit
		n := 96 + g.IntN(8)
		return strings.Repeat(g.pick("[", `{"a":`, "[[1],"), n) + "1" + strings.Repeat(g.pick("]", "}"), n)
	case 1:
		n := 96 + g.IntN(8)
		return strings.Repeat("[", n) + strings.Repeat("]", n)
	case 2: // cut off
		text := g.value(3)
		return text[:g.IntN(len(text)+1)]
	case 3: // one byte is another
		text := []byte(g.value(3))
		text[g.IntN(len(text))] = byte(g.IntN(256))
		return string(text)
	case 4:
		return g.value(2) + g.pick("", " ", ",", "\x00", "\ufeff") + g.value(2)
	case 5:
		return g.pick("", "null", " null ", "\ufeff{}", "{}\x00", "NaN", "'a'", "{a:1}", "[1,]", "[,]", `{"a"}`, "/**/1", "tru", "-", "1.", ".5", "+1", "01", "0x1")
	}
	if g.IntN(400) == 0 { // 64 KiB ± 1
		text := g.value(2)
		n := buildcast.MaxEventData - 1 + g.IntN(3) - len(text) - len(`[,""]`)
		return "[" + text + `,"` + strings.Repeat("x", max(n, 0)) + `"]`
	}
	return g.space() + g.value(4) + g.space()
}

func (g *generator) value(depth int) string {
	switch n := g.IntN(10); {
	case n < 2 && depth > 0:
		parts := make([]string, g.IntN(5))
		for i := range parts {
			parts[i] = g.space() + g.value(depth-1)
		}
		return "[" + strings.Join(parts, g.space()+",") + g.space() + "]"
	case n < 5 && depth > 0:
		parts := make([]string, g.IntN(5))
		for i := range parts {
			parts[i] = g.space() + g.name() + g.space() + ":" + g.space() + g.value(depth-1)
		}
		return "{" + strings.Join(parts, ",") + g.space() + "}"
	case n < 7:
		return g.number()
	case n < 8:
		return g.pick("true", "false", "null")
	}
	return g.text()
}

// name is often one that the fold reads, or one that the object has already.
func (g *generator) name() string {
	if g.IntN(3) > 0 {
		return g.pick(`"a"`, `"z"`, `"A"`, `""`, `"message"`, `"progress"`, `"percent"`, `"taskCount"`, `"previewUrl"`, `"\u0061"`)
	}
	return g.text()
}

func (g *generator) space() string {
	if g.IntN(6) > 0 {
		return ""
	}
	return g.pick(" ", "\t", "\n", "\r\n", "  ", "\r", "\t \t")
}

func (g *generator) number() string {
	digits := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte('0' + g.IntN(10))
		}
		return strings.TrimLeft(string(b), "0") + "1"
	}
	text := g.pick("", "-")
	if g.IntN(500) == 0 { // beyond every database's limit
		return text + "0." + strings.Repeat("3", 17_000)
	}
	switch g.IntN(12) {
	case 0:
		text += "0"
	case 1:
		text += digits(995 + g.IntN(6))
	case 2:
		text += "0." + strings.Repeat("0", g.IntN(1002)) + "7"
	case 3:
		text += digits(1+g.IntN(40)) + "." + digits(1+g.IntN(40))
	default:
		text += digits(1 + g.IntN(25))
	}
	if g.IntN(3) == 0 {
		text += g.pick("e", "E") + g.pick("", "+", "-") + g.pick("0", "7", "308", "309", "400", "998", "999", "0999", "1000", "9999", "10000", "00001", "99999999999")
	}
	return text
}

func (g *generator) text() string {
	var b strings.Builder
	b.WriteByte('"')
	for range g.IntN(6) {
		b.WriteString(g.pick(
			"a", "Z", " ", "<&>", "'", "%", "é", "ß", "中", "😀", "\U0010ffff", "\ufffd", "\ufffe", "\uffff", "\u2028", "\u2029", "\x7f", "\u0080", "e\u0301",
			`\n`, `\t`, `\"`, `\\`, `\/`, `\b`, `\f`, `\r`, `\u0001`, `\u001f`, `\u00e9`, `\u2028`, `\ud83d\ude00`, `\uD83D\uDE00`, `\\u0000`, `\ufffe`,
		))
		if g.IntN(60) == 0 {
			b.WriteString(g.pick(`\u0000`, `\ud83d`, `\ude00`, `\ude00\ud83d`, `\ud83d\ud83d`, `\ud83dx`, `\x`, `\u12`, `\`, "\x00", "\x01", "\n", "\xff", "\xc3", "\xed\xa0\xbd", "\xf4\x90\x80\x80", "\xc0\x80"))
		}
	}
	b.WriteByte('"')
	return b.String()
}

// The generator reaches every limit from both sides.
func TestGeneratedEventsReachTheLimits(t *testing.T) {
	g := &generator{rand.New(rand.NewPCG(1, 1))}
	seen := map[string]int{}
	for range 40_000 {
		e := g.event()
		size := len(e.Data)
		switch err := e.Validate(); {
		case err != nil:
			text := err.Error()
			for _, part := range []string{"digits", "exponent", "nested", "surrogate", `\u0000`, "valid JSON", "UTF-8", "the limit is 65536", "key is", "event type"} {
				if strings.Contains(text, part) {
					seen[part]++
				}
			}
		case size == buildcast.MaxEventData:
			seen["largest"]++
		}
	}
	var missing []string
	for _, part := range []string{"digits", "exponent", "nested", "surrogate", `\u0000`, "valid JSON", "UTF-8", "the limit is 65536", "key is", "event type", "largest"} {
		if seen[part] == 0 {
			missing = append(missing, part)
		}
	}
	if slices.Sort(missing); len(missing) > 0 {
		t.Errorf("never made: %v", missing)
	}
}
