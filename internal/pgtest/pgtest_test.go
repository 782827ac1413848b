package pgtest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// childVariable makes this binary the program that a test kills.
const childVariable = "BUILDCAST_PGTEST_CHILD"

type withServer struct{ *testing.M }

func (m withServer) Run() int { return Main(m.M) }

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		runChild()
	}
	goleak.VerifyTestMain(withServer{m})
}

// runChild starts a server, prints its port and directory, and waits to be killed.
func runChild() {
	s, err := Run()
	if err != nil {
		panic(err)
	}
	fmt.Println(s.port, s.dir)
	select {}
}

func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var answer string
	if err := conn.QueryRow(t.Context(), sql).Scan(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestURLGivesDatabasesOfTheirOwn(t *testing.T) {
	one := URL(t)
	var two string
	t.Run("another test", func(t *testing.T) {
		two = URL(t)
		if err := execute(two, "CREATE TABLE mine (id int)"); err != nil {
			t.Fatal(err)
		}
		if one == two {
			t.Fatalf("both tests have %s", one)
		}
	})
	if n := query(t, one, "SELECT count(*)::text FROM pg_tables WHERE tablename = 'mine'"); n != "0" {
		t.Error("a table of one test is in the database of another")
	}
	if err := execute(two, "SELECT 1"); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("after its test the database answers %v", err)
	}
	if on := query(t, one, "SHOW fsync"); on != "on" {
		t.Errorf("fsync is %s", on)
	}
}

func TestStopAndRestartKeepPortAndData(t *testing.T) {
	s := Start(t)
	if err := execute(s.URL(), "CREATE TABLE kept AS SELECT 'still here' AS word"); err != nil {
		t.Fatal(err)
	}
	url := s.URL()
	s.Stop()
	s.Stop() // twice does no harm
	if err := execute(url, "SELECT 1"); err == nil {
		t.Fatal("the stopped server answers")
	}
	s.Restart()
	if s.URL() != url {
		t.Errorf("%s became %s", url, s.URL())
	}
	if word := query(t, url, "SELECT word FROM kept"); word != "still here" {
		t.Errorf("read %q", word)
	}
}

func TestCloseRemovesTheData(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		s, err := Run()
		if err != nil {
			t.Fatal(err)
		}
		if stopped {
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
			t.Errorf("stopped before: %v: the directory: %v", stopped, err)
		}
	}
}

func TestServerDiesWithAKilledProcess(t *testing.T) {
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childVariable+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var port int
	var dir string
	if _, err := fmt.Fscan(bufio.NewReader(out), &port, &dir); err != nil {
		t.Fatal("the child prints no port: ", err)
	}
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	// The server's end of this connection ends with the server.
	if n, err := conn.WaitForNotification(t.Context()); err == nil {
		t.Fatalf("the server still sends %v", n)
	}
	for err == nil {
		_, err = os.Stat(dir)
	}
	if !os.IsNotExist(err) {
		t.Error(err)
	}
}

func TestMissingPostgresTellsWhatToInstall(t *testing.T) {
	_, err := choose(nil)
	if err == nil || !strings.Contains(err.Error(), "install it: apt-get install -y postgresql") {
		t.Errorf("error %v", err)
	}
}

func TestAServerThatCannotStartShowsItsLog(t *testing.T) {
	s, err := Run()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if err := s.start(); err == nil || !strings.Contains(err.Error(), "could not bind") {
		t.Errorf("error %v", err)
	}
}
