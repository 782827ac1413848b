// Command ingest measures how fast events become durable: buildcast beside the
// seed's design (Node, one INSERT per event) on the same Postgres in the same
// run, streams on both stores, and the latency of one append on an idle server
// beside a bare INSERT. Trust the ratios; the machine's mood is in the rest.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/bench/process"
	"github.com/buildcast/buildcast/internal/eventlog"
	"github.com/buildcast/buildcast/internal/pgtest"
	"github.com/buildcast/buildcast/internal/store"
	"github.com/buildcast/buildcast/internal/store/postgres"
	"github.com/buildcast/buildcast/internal/store/sqlite"
)

var (
	conns   = flag.Int("conns", 32, "connections that post single events")
	seconds = flag.Float64("seconds", 4, "length of each load")
	rounds  = flag.Int("rounds", 3, "rounds of each measurement, in turn; medians are printed")
	ndjson  = flag.Int("ndjson", 300_000, "events of one NDJSON stream")
	idle    = flag.Int("idle", 1000, "appends of one latency measurement")
	seed    = flag.String("seed", "bench/peers/node", "folder of seed.js with its node_modules")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "buildcast-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	pg, err := pgtest.Run()
	if err != nil {
		return err
	}
	defer pg.Close()
	bin, err := process.Build(ctx, dir)
	if err != nil {
		return err
	}
	for _, name := range []string{"seed", "ours", "idle"} {
		if err := createDatabase(ctx, pg, name); err != nil {
			return err
		}
	}
	seedAddr, stop, err := startSeed(ctx, pg.DatabaseURL("seed"))
	if err != nil {
		return err
	}
	defer stop()
	onPostgres, stop, err := startOurs(ctx, bin, filepath.Join(dir, "pg"), pg.DatabaseURL("ours"))
	if err != nil {
		return err
	}
	defer stop()
	onSQLite, stop, err := startOurs(ctx, bin, filepath.Join(dir, "sqlite"), "")
	if err != nil {
		return err
	}
	defer stop()

	d := time.Duration(*seconds * float64(time.Second))
	singles := map[string][]float64{}
	for range *rounds {
		for _, s := range []struct{ name, addr string }{{"seed", seedAddr}, {"buildcast on Postgres", onPostgres}, {"buildcast on SQLite", onSQLite}} {
			r, err := posts(s.addr, *conns, d)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			log.Printf("%-22s %8.0f single-event POSTs/s   p50 %-8v p99 %v", s.name, r.rate(), r.p50.Round(10*time.Microsecond), r.p99.Round(10*time.Microsecond))
			singles[s.name] = append(singles[s.name], r.rate())
		}
	}
	log.Printf("ratio to the seed: %.1f on Postgres, %.1f on SQLite\n", median(singles["buildcast on Postgres"])/median(singles["seed"]), median(singles["buildcast on SQLite"])/median(singles["seed"]))

	for _, s := range []struct{ name, addr string }{{"buildcast on Postgres", onPostgres}, {"buildcast on SQLite", onSQLite}} {
		var rates []float64
		for i := range *rounds {
			r, err := stream(s.addr, fmt.Sprintf("stream-%d", i), *ndjson)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			rates = append(rates, r.rate())
		}
		log.Printf("%-22s %8.0f events/s of NDJSON", s.name, median(rates))
	}
	return latencies(ctx, pg.DatabaseURL("idle"), filepath.Join(dir, "idle.db"))
}

// latencies compares one append on an idle log with a bare INSERT, in turn.
func latencies(ctx context.Context, url, file string) error {
	pgStore, err := postgres.Open(ctx, url)
	if err != nil {
		return err
	}
	defer pgStore.Close()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, seedSchema); err != nil {
		return err
	}
	bare := func() error {
		var id int64
		return conn.QueryRow(ctx, `INSERT INTO bare_events (build_id, event_type, event_data) VALUES ($1, $2, $3) RETURNING id`,
			"idle", "task_completed", `{"taskName":"Create HTML Test Page","filesCreated":1}`).Scan(&id)
	}
	if err := compare(ctx, "Postgres", pgStore, bare); err != nil {
		return err
	}
	liteStore, err := sqlite.Open(ctx, file)
	if err != nil {
		return err
	}
	defer liteStore.Close()
	db, err := openBareSQLite(file + ".bare")
	if err != nil {
		return err
	}
	defer db.Close()
	return compare(ctx, "SQLite", liteStore, func() error {
		_, err := db.ExecContext(ctx, `INSERT INTO bare_events (build_id, event_type, event_data) VALUES (?, ?, ?)`,
			"idle", "task_completed", `{"taskName":"Create HTML Test Page","filesCreated":1}`)
		return err
	})
}

// seedSchema is the seed's table under another name.
const seedSchema = `
	CREATE TABLE bare_events (id SERIAL PRIMARY KEY, build_id VARCHAR(26) NOT NULL, event_type VARCHAR(50) NOT NULL, event_data JSONB NOT NULL, created_at TIMESTAMP DEFAULT NOW());
	CREATE INDEX bare_build_id ON bare_events (build_id);
	CREATE INDEX bare_composite ON bare_events (build_id, id)`

func compare(ctx context.Context, name string, s store.Store, bare func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := eventlog.New(s, s, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	e := buildcast.NewEvent{Type: "task_completed", Data: []byte(`{"taskName":"Create HTML Test Page","filesCreated":1}`)}
	var theirs, ours []float64
	for range *idle {
		begin := time.Now()
		if err := bare(); err != nil {
			return err
		}
		between := time.Now()
		if _, err := l.Append(ctx, "idle", 0, e); err != nil {
			return err
		}
		theirs = append(theirs, between.Sub(begin).Seconds()*1e6)
		ours = append(ours, time.Since(between).Seconds()*1e6)
	}
	cancel()
	log.Printf("one append when idle, %-9s bare INSERT %.0f µs, buildcast %.0f µs, ratio %.2f (medians of %d)", name+":", median(theirs), median(ours), median(ours)/median(theirs), *idle)
	return <-done
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

func startSeed(ctx context.Context, database string) (addr string, stop func(), err error) {
	if _, err := os.Stat(filepath.Join(*seed, "node_modules")); err != nil {
		return "", nil, fmt.Errorf("%s has no node_modules: run npm install there, or bench/run", *seed)
	}
	addr = process.FreeAddr()
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.CommandContext(ctx, "node", "seed.js")
	cmd.Dir = *seed
	cmd.Env = append(os.Environ(), "DATABASE_URL="+database, "PORT="+port)
	return addr, func() { process.Kill(cmd) }, process.Start(cmd, "http://"+addr+"/api/builds/x/events")
}

func startOurs(ctx context.Context, bin, dir, database string) (addr string, stop func(), err error) {
	addr = process.FreeAddr()
	cmd := exec.CommandContext(ctx, bin, "serve", "--listen", addr, "--preview-listen", process.FreeAddr(), "--data-dir", dir, "--database", database)
	return addr, func() { process.Kill(cmd) }, process.Start(cmd, "http://"+addr+"/readyz")
}
