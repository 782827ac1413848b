package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// shared is the server of this test binary; nil until a test needs it. Tests share
// nothing else.
var shared struct {
	mu     sync.Mutex
	server *Server
	serial int
}

// Main runs the tests and then stops the server, if one was needed:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
func Main(m interface{ Run() int }) int {
	code := m.Run()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server != nil {
		if err := shared.server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping Postgres:", err)
			return max(code, 1)
		}
		shared.server = nil
	}
	return code
}

// URL creates a database on the package's server and returns its URL. The database is
// dropped after the test, even if connections to it are still open.
func URL(t testing.TB) string {
	t.Helper()
	admin, name, err := nextDatabase()
	if err != nil {
		t.Fatal(err)
	}
	if err := execute(admin, "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := execute(admin, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal("BUILDCAST_TEST_POSTGRES is not a URL")
	}
	u.Path = "/" + name
	return u.String()
}

// nextDatabase returns the URL of the server on which to create a database, and a
// name for it. It starts the server for the first one.
func nextDatabase() (admin, name string, err error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	shared.serial++
	name = fmt.Sprintf("test_%d_%d", os.Getpid(), shared.serial)
	if admin := os.Getenv("BUILDCAST_TEST_POSTGRES"); admin != "" {
		return admin, name, nil
	}
	if shared.server == nil {
		if shared.server, err = Run(); err != nil {
			return "", "", err
		}
	}
	return shared.server.URL(), name, nil
}

func execute(url, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}

// Private is a server of one test alone, which may stop it.
type Private struct {
	*Server
	t testing.TB
}

// Start starts a server for the test, and closes it after the test.
func Start(t testing.TB) *Private {
	t.Helper()
	s, err := Run()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Private{s, t}
}

// Stop ends the server at once, as a crash does. Its data stay.
func (p *Private) Stop() {
	p.t.Helper()
	if err := p.stop(); err != nil {
		p.t.Error(err)
	}
}

// Restart stops the server if it runs, starts it on the same port and returns
// once it accepts connections.
func (p *Private) Restart() {
	p.t.Helper()
	p.Stop()
	if err := p.start(); err != nil {
		p.t.Fatal(err)
	}
}
