// Package process builds and starts the servers that the bench programs measure.
package process

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Build builds buildcast into the directory and returns the program's path. An
// existing one is kept.
func Build(ctx context.Context, dir string) (string, error) {
	bin := filepath.Join(dir, "buildcast")
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bin, "./cmd/buildcast").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
}

// Start starts the command and returns when the URL answers 200.
func Start(cmd *exec.Cmd, url string) error {
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	for range 2000 {
		if resp, err := http.Get(url); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	Kill(cmd)
	return fmt.Errorf("%s did not answer within 10 s", url)
}

// Kill ends the command, if it was started, and waits until it is gone.
func Kill(cmd *exec.Cmd) {
	if cmd != nil && cmd.Process != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// FreeAddr returns a loopback address with a port that nobody listens on. It ends
// the program if there is none.
func FreeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
