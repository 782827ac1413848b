package cli

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/server"
)

// remote is how a verb finds the server it speaks to.
type remote struct {
	Server string `placeholder:"URL" help:"The server, such as https://builds.example.com. Default: the one that runs on this data directory, or at http://127.0.0.1:8080."`
	APIKey string `name:"api-key" placeholder:"KEY" help:"The key that a server with API keys asks for. @FILE reads it from a file. Flags are visible in process lists: use the environment or a file."`
}

// local is where a verb looks for a server on this machine, for verbs that have
// no other setting of the server's.
type local struct {
	DataDir string `default:".buildcast" placeholder:"DIR" help:"Directory of a running server, to find its address."`
	Listen  string `default:"127.0.0.1:8080" hidden:"" help:"Address that a server on this machine listens on."`
}

// probeTimeout bounds asking whether a server is there: it is on this machine.
const probeTimeout = time.Second

// find gives a client for the server that is named or running, and its URL.
func (r *remote) find(ctx context.Context, l local, opts ...client.Option) (*client.Client, string, error) {
	at := r.Server
	if at == "" {
		at = running(ctx, l.DataDir, l.Listen)
	}
	if at == "" {
		return nil, "", buildcast.Errorf(buildcast.NotFound,
			"no server is running here: start one with `buildcast serve`, or name one with --server URL or BUILDCAST_SERVER")
	}
	c, err := r.client(at, opts...)
	return c, at, err
}

func (r *remote) client(at string, opts ...client.Option) (*client.Client, error) {
	key, err := config.Secret("--api-key", r.APIKey)
	if err != nil {
		return nil, err
	}
	return client.New(at, append(opts, client.APIKey(key))...)
}

// running gives the URL of a buildcast that runs on this machine, or nothing.
// What server.json says may be left over from a crash, and the configured port
// may be another program's, so both are asked who they are.
func running(ctx context.Context, dir, listen string) string {
	candidates := []string{server.URLOf(listen)}
	if info, err := server.ReadInfo(dir); err == nil {
		candidates = append([]string{info.URL}, candidates...)
	}
	for _, at := range candidates {
		if isBuildcast(ctx, at) {
			return at
		}
	}
	return ""
}

func isBuildcast(ctx context.Context, at string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at+"/healthz", http.NoBody)
	if err != nil {
		return false
	}
	transport := &http.Transport{DisableKeepAlives: true} // no proxy: it is on this machine
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var health struct {
		Service string `json:"service"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 4<<10)).Decode(&health)
	return err == nil && resp.StatusCode == http.StatusOK && health.Service == "buildcast"
}
