package verb

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

// Remote is the server that the command line names.
type Remote struct {
	Server string `placeholder:"URL" help:"The server, such as https://builds.example.com. Default: the one that runs on this data directory, or at http://127.0.0.1:8080."`
	APIKey string `name:"api-key" placeholder:"KEY" help:"The server's API key, if it has any. @FILE reads it from a file. Flags are visible in process lists: use the environment or a file."`
}

// Connection is how a verb finds its server: the one that is named, or one that
// runs on this machine.
type Connection struct {
	Remote
	DataDir string `default:".buildcast" placeholder:"DIR" help:"Data directory of a running server, which holds its address."`
	Listen  string `default:"127.0.0.1:8080" hidden:"" help:"Address that a server on this machine listens on."`
}

// probeTimeout bounds the question whether a server answers on this machine.
const probeTimeout = time.Second

// Find returns a client for the server that is named or running, and its URL.
func (c *Connection) Find(ctx context.Context, opts ...client.Option) (*client.Client, string, error) {
	at := c.Server
	if at == "" {
		at = Running(ctx, c.DataDir, c.Listen)
	}
	if at == "" {
		return nil, "", buildcast.Errorf(buildcast.NotFound,
			"no server is running here: start one with `buildcast serve`, or name one with --server URL or BUILDCAST_SERVER")
	}
	cl, err := c.Client(at, opts...)
	return cl, at, err
}

// With calls run with a client for the server. The context ends when the
// session is interrupted.
func (c *Connection) With(s *Session, run func(context.Context, *client.Client) error) error {
	ctx, stop := s.UntilInterrupted()
	defer stop()
	cl, _, err := c.Find(ctx)
	if err != nil {
		return err
	}
	return run(ctx, cl)
}

// Client returns a client for the server at a URL.
func (r *Remote) Client(at string, opts ...client.Option) (*client.Client, error) {
	key, err := config.Secret("--api-key", r.APIKey)
	if err != nil {
		return nil, err
	}
	return client.New(at, append(opts, client.APIKey(key))...)
}

// Running returns the URL of a buildcast server on this machine, or "". A crash
// may have left server.json behind, and the configured port may belong to
// another program, so both are asked who they are.
func Running(ctx context.Context, dir, listen string) string {
	candidates := []string{server.URLOf(listen)}
	if info, err := server.ReadInfo(dir); err == nil {
		candidates = append([]string{info.URL}, candidates...)
	}
	for _, at := range candidates {
		if IsBuildcast(ctx, at) {
			return at
		}
	}
	return ""
}

// IsBuildcast reports whether a buildcast server answers at a URL of this machine.
func IsBuildcast(ctx context.Context, at string) bool {
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

// PageURL returns where the dashboard of the server at a URL shows the build.
func PageURL(at, id string) string { return at + "/builds/" + id }
