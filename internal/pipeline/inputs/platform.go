package inputs

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/buildcast/buildcast/internal/cache"
)

// Platform says what runs the commands: the system, and the programs on the PATH.
type Platform struct {
	path string

	mu    sync.Mutex
	at    time.Time // when it was looked at
	parts map[string]string
}

// NewPlatform returns the platform of commands with this PATH.
func NewPlatform(path string) *Platform { return &Platform{path: path} }

const (
	// lookEvery is how long the answer is used: programs may be installed while the
	// server runs.
	lookEvery = time.Minute
	// askTimeout bounds one program that is asked for its version.
	askTimeout = 10 * time.Second
)

// asked are the programs that are asked for their versions, so that Why can tell them.
var asked = map[string][]string{"node": {"node", "-v"}, "npm": {"npm", "-v"}, "libc": {"getconf", "GNU_LIBC_VERSION"}}

// AddTo adds the platform's parts to the key.
func (p *Platform) AddTo(ctx context.Context, k *cache.Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); p.parts == nil || now.Sub(p.at) > lookEvery {
		p.at = now
		p.look(ctx)
	}
	for name, value := range p.parts {
		k.Add(cache.PartPlatform, name, value)
	}
}

// look looks at the programs, and asks for versions if there are others than before.
func (p *Platform) look(ctx context.Context) {
	if programs := programsOn(p.path); p.parts["programs"] != programs {
		p.parts = map[string]string{"os": runtime.GOOS, "arch": runtime.GOARCH, "PATH": p.path, "programs": programs}
		for name, command := range asked {
			p.parts[name] = p.ask(ctx, command)
		}
	}
}

// ask returns what the program prints; "none" if it does not run.
func (p *Platform) ask(ctx context.Context, command []string) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	defer cancel()
	program := ""
	for _, dir := range filepath.SplitList(p.path) {
		at := filepath.Join(dir, command[0])
		if info, err := os.Stat(at); program == "" && err == nil && info.Mode()&0o111 != 0 {
			program = at
		}
	}
	if program == "" || !filepath.IsAbs(program) {
		return "none"
	}
	cmd := exec.CommandContext(ctx, program, command[1:]...) //nolint:gosec // a program on the server's own PATH
	cmd.Env, cmd.Dir = []string{"PATH=" + p.path}, "/"
	out, err := cmd.Output()
	if err != nil {
		return "none"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

// programsOn returns a hash of the names, sizes and times of the programs.
func programsOn(path string) string {
	sum := sha256.New()
	for _, dir := range filepath.SplitList(path) {
		entries, _ := os.ReadDir(dir) // sorted
		for _, e := range entries {
			info, err := os.Stat(filepath.Join(dir, e.Name())) // of what a link leads to
			if err != nil || !info.Mode().IsRegular() {
				continue
			}
			sum.Write(append([]byte(e.Name()), 0))
			_ = binary.Write(sum, binary.BigEndian, [2]int64{info.Size(), info.ModTime().UnixNano()})
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:12])
}
