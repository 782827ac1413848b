package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/server"
)

// ownServer is a server inside this process.
type ownServer struct {
	url, key string
	lasting  bool // whether the next server on the data directory has the same preview address
	cancel   context.CancelFunc
	ended    chan struct{} // closed when it has ended, with err
	err      error
	log      *os.File
}

// maxOwnLog is the size in bytes beyond which the log file is truncated at the start.
const maxOwnLog = 1 << 20

// startOwn starts a server on the configured addresses, or on free ports if another
// program uses the default ones. Its log goes to a file: on the terminal it would
// garble the display.
func startOwn(ctx context.Context, cfg config.Config) (*ownServer, error) {
	log, err := openOwnLog(&cfg)
	if err != nil {
		return nil, err
	}
	logger := newLogger(log, "text", "warn")
	srv, err := server.New(ctx, cfg, version(), logger)
	usual := cfg.Listen == config.DefaultListen && cfg.PreviewListen == config.DefaultPreviewListen
	if usual && server.AddressTaken(err) {
		cfg.Listen, cfg.PreviewListen = "127.0.0.1:0", "127.0.0.1:0"
		srv, err = server.New(ctx, cfg, version(), logger)
	}
	if err != nil {
		log.Close()
		return nil, err
	}
	// It does not end with ctx: after Ctrl-C the build is cancelled on it.
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	o := &ownServer{url: srv.URL(), cancel: cancel, ended: make(chan struct{}), log: log}
	o.lasting = server.URLOf(cfg.PreviewListen) == srv.PreviewURL()
	if len(cfg.APIKeys) > 0 {
		o.key = cfg.APIKeys[0]
	}
	go func() { // ends in stop
		defer close(o.ended)
		o.err = srv.Run(run)
	}()
	return o, nil
}

func openOwnLog(cfg *config.Config) (*os.File, error) {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, unusable(cfg, err)
	}
	path := cfg.File("buildcast.log")
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if info, err := os.Stat(path); err == nil && info.Size() > maxOwnLog {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, unusable(cfg, err)
	}
	return f, nil
}

func unusable(cfg *config.Config, err error) error {
	return fmt.Errorf("the data directory %s cannot be used: make it writable for this user, or name another one with --data-dir: %w", cfg.DataDir, err)
}

// whileRunning returns a context that ends with ctx, or when the server ends by itself.
func (o *ownServer) whileRunning(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() { // ends with ctx
		select {
		case <-o.ended:
			cancel(errors.New("the server in this process has ended"))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// stop drains the server and waits for it.
func (o *ownServer) stop() error {
	o.cancel()
	<-o.ended
	o.log.Close()
	return o.err
}
