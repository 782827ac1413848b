// Command live measures what crowds do to a server. It is a process of its own,
// with SQLite; subscribers speak the Socket.IO wire over WebSocket.
//
//	go run ./bench/live slow    sockets that never read, beside readers that keep up
//	go run ./bench/live storm   all subscribers lose the server (kill -9) and come back
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/buildcast/buildcast/bench/process"
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err == nil {
		files.Cur = files.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files)
	}
	run := map[string]func(*server) error{"slow": slow, "storm": storm}[flag.Arg(0)]
	if run == nil {
		log.Fatal("say what to measure: slow or storm")
	}
	dir, err := os.MkdirTemp("", "buildcast-bench")
	if err != nil {
		log.Fatal(err)
	}
	s := &server{dir: dir, addr: process.FreeAddr(), preview: process.FreeAddr()}
	err = s.start()
	if err == nil {
		err = run(s)
	}
	s.kill()
	os.RemoveAll(dir)
	if err != nil {
		log.Fatal(err)
	}
}

// server is the buildcast that is measured: always on the same address and data.
type server struct {
	dir, addr, preview string
	cmd                *exec.Cmd
}

// start returns when the server is ready.
func (s *server) start() error {
	bin, err := process.Build(context.Background(), s.dir)
	if err != nil {
		return err
	}
	s.cmd = exec.CommandContext(context.Background(), bin, "serve", "--listen", s.addr, "--preview-listen", s.preview, "--data-dir", filepath.Join(s.dir, "data"), "--log-level", "warn")
	return process.Start(s.cmd, "http://"+s.addr+"/readyz")
}

func (s *server) kill() { process.Kill(s.cmd) }

// rss is the memory that the server has, in MB.
func (s *server) rss() float64 {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(s.cmd.Process.Pid) + "/status")
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kb, _ := strconv.Atoi(strings.Fields(rest + " 0")[0])
	return float64(kb) / 1024
}

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 10 * time.Second}

// append appends events with data of some bytes, and returns the last one's id.
func (s *server) append(build string, n, size int) (int64, error) {
	event := fmt.Sprintf(`{"type":"step","data":{"sent":%d,"text":"%s"}}`, time.Now().UnixNano(), strings.Repeat("x", max(size-40, 1)))
	body := "[" + strings.Repeat(event+",", n-1) + event + "]"
	resp, err := client.Post("http://"+s.addr+"/api/builds/"+build+"/events", "application/json", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusCreated {
		return 0, fmt.Errorf("%s: %.200s %w", resp.Status, text, err)
	}
	var stored struct{ LastEventID int64 }
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&stored); err != nil {
		return 0, err
	}
	return stored.LastEventID, nil
}
