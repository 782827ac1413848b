package socketio_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// The stock socket.io-client, from npm, against the conformance server: default
// options, WebSocket only, polling only, compressed.
func TestStockClient(t *testing.T) {
	if _, err := os.Stat("jstest/node_modules/socket.io-client"); err != nil {
		t.Fatal("socket.io-client is not installed: run make deps")
	}
	bin := filepath.Join(t.TempDir(), "conformance")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./conformance").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	server := exec.CommandContext(t.Context(), bin, "-listen", "127.0.0.1:0", "-ping-timeout", "10s")
	stderr, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	line, err := bufio.NewReader(stderr).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	addr := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(line)
	if addr == "" {
		t.Fatalf("the server says %q", line)
	}
	test := exec.CommandContext(t.Context(), "node", "--test")
	test.Dir = "jstest"
	test.Env = append(os.Environ(), "URL=http://"+addr)
	if out, err := test.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
