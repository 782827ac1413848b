// Package config holds the server's settings: one struct, filled from flags,
// the environment, a file and the defaults, in that order of precedence.
//
// The struct's tags define the command line (github.com/alecthomas/kong): a field's
// flag, its BUILDCAST_ variable and its name in the file are the same word. After
// parsing, [Config.Check] reads the secrets that are kept in files, and refuses
// settings that are unsafe or cannot work.
package config

import (
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
)

// The addresses that the CLI tries if none is named, and the server listens on.
const (
	DefaultListen        = "127.0.0.1:8080"
	DefaultPreviewListen = "127.0.0.1:8081"
	DefaultDataDir       = ".buildcast"
)

// Config holds the settings of one buildcast server.
type Config struct {
	// Listen is where the API is served, as host:port. Port 0 takes a free one.
	Listen string `default:"127.0.0.1:8080" placeholder:"ADDR" help:"Address of the API. Port 0 takes a free port. Beyond loopback it needs --api-keys (or --insecure)."`
	// PreviewListen is where previews are served: an origin of its own, because
	// previews are other people's HTML. Port 0 takes a free one.
	PreviewListen string `default:"127.0.0.1:8081" placeholder:"ADDR" help:"Address of the preview server, which serves what builds deploy. Port 0 takes a free port."`
	// PublicURL is where browsers reach the API. Check normalizes it: lower case,
	// no slash at the end. Use [Config.Public] to read it.
	PublicURL string `name:"public-url" placeholder:"URL" help:"Where browsers reach the API if a proxy is in front of it, such as https://example.com/buildcast. Links are made from it, and its pages may use Socket.IO."`
	// TrustedProxies are the proxies whose forwarding headers count.
	TrustedProxies []AddressRange `placeholder:"CIDR" help:"Addresses of proxies whose X-Forwarded-For, -Host and -Proto (or Forwarded) headers count, such as 127.0.0.1,10.0.0.0/8. List only proxies that set these headers themselves. Default: none."`
	// PreviewURL is how browsers reach previews, with {label} for the build.
	// Empty: http://{label}.localhost and the port of PreviewListen.
	PreviewURL string `name:"preview-url" placeholder:"URL" help:"How browsers reach previews: {label} stands for a build's part of the host name, such as in https://{label}.previews.example.com. Default: http://{label}.localhost and the port of --preview-listen."`
	// PreviewHost is the name of PreviewURL's setting in earlier versions.
	PreviewHost string `hidden:""`
	// DataDir holds the SQLite database, workspaces, previews and the lock that
	// keeps it to one process.
	DataDir string `default:".buildcast" placeholder:"DIR" help:"Directory for the database, workspaces and previews. It is created if it does not exist. Only one server at a time can use it."`
	// Database is postgres://… or empty for SQLite in DataDir. It may hold a
	// password: print [Config.Store] instead.
	Database string `placeholder:"URL" help:"postgres://user:password@host/name. Empty: SQLite in the data directory. @FILE reads it from a file. Flags are visible in process lists: keep passwords in the environment or a file."`
	// APIKeys allow all writes. Empty: writes need no key, which is allowed only on loopback.
	APIKeys []string `name:"api-keys" placeholder:"KEY" help:"Keys of at least 16 characters; each opens all writes. @FILE reads them from a file, one a line. Flags are visible in process lists: use the environment or a file."`
	// Insecure allows listening beyond loopback without keys.
	Insecure bool `help:"Allow listening beyond loopback, and writes through a proxy, without API keys: whoever reaches the address can run commands on this machine."`
	// AllowOrigins are sites such as https://app.example.com.
	AllowOrigins []string `placeholder:"ORIGIN" help:"Sites whose pages may call the API from a browser, such as https://app.example.com. * lets all pages read."`
	// AllowCredentials lets pages of AllowOrigins send cookies and the like.
	AllowCredentials bool `help:"Let pages of --allow-origins send credentials (withCredentials), such as cookies of a proxy that signs users in. Not together with *."`

	// Builds is how many builds run at once; the rest queue in order. 1 to 1000.
	Builds int `default:"4" placeholder:"N" help:"Builds that run at once, 1 to 1000. The rest wait in order."`
	// Tasks is how many tasks of one build run at once. 1 to 1000.
	Tasks int `default:"4" placeholder:"N" help:"Tasks of one build that run at once, 1 to 1000."`
	// PreviewKeep is how long a preview stays after its deploy; at least a minute.
	PreviewKeep time.Duration `default:"168h" placeholder:"DURATION" help:"How long a preview is kept after its deploy, such as 168h; at least 1m."`
	// KeepFailed is how long the workspace of a failed or cancelled build stays for its
	// retry; at least a minute.
	KeepFailed time.Duration `default:"24h" placeholder:"DURATION" help:"How long the workspace of a failed or cancelled build is kept, so that a retry takes over what was completed, such as 24h; at least 1m."`
	// SecretsDir holds a file for each secret that plans may name. Empty: none.
	SecretsDir string `placeholder:"DIR" help:"Directory with the secrets that plans may name: the files NAME, or PROJECT/NAME for one project. Other users must not be able to read them."`
	// DrainTimeout bounds each step of an orderly stop.
	DrainTimeout time.Duration `default:"10s" placeholder:"DURATION" help:"How long a stop waits for requests and for running commands to end, each, such as 10s."`

	// Sandbox is auto, bwrap or off; see runner.Config. Empty is auto.
	Sandbox string `default:"auto" enum:"auto,bwrap,off" placeholder:"MODE" help:"What confines the commands of builds: bwrap (the server does not start if it does not work), off (nothing), or auto: bwrap if it works; if not, commands run without, but only if the server listens on loopback and has no --api-keys."`
	// SandboxRead is what commands may read in addition to the system's programs.
	SandboxRead []string `placeholder:"DIR" help:"Directories that commands may read inside the sandbox, besides /usr and what PATH needs, such as a tool's own below /opt."`
	// Limits bound each command.
	Limits Limits `embed:"" prefix:"limit-"`

	// Webhooks is how events are sent to endpoints.
	Webhooks Webhooks `embed:"" prefix:"webhook-"`

	// Deploy is the program that builds may be handed to, if there is one.
	Deploy Deploy `embed:"" prefix:"deploy-"`
	// Egress is what commands may reach of the network.
	Egress Egress `embed:"" prefix:"egress-"`
	// NPMRegistry is where commands get npm packages from; empty: npm's own default.
	NPMRegistry string `name:"npm-registry" placeholder:"URL" help:"Registry that npm, pnpm and yarn use in builds, such as https://npm.example.com/. Default: their own."`

	// Cloudflare is where builds may be deployed to, if it is set up.
	Cloudflare Cloudflare `embed:"" prefix:"cloudflare-"`

	// Planner makes plans from prompts, for builds that name none. Empty: command, if
	// there is one, or else anthropic, if there is a key.
	Planner string `placeholder:"NAME" help:"Who makes a plan from a prompt, unless the build names another: anthropic, command or static (nobody: prompts are refused). Default: command if --planner-command is set, anthropic if there is a key."`
	// Model is the model that the planner anthropic asks.
	Model string `default:"claude-sonnet-5-5" placeholder:"MODEL" help:"Model that the planner anthropic asks."`
	// Cache is how much room the cache has.
	Cache Cache `embed:"" prefix:"cache-"`

	// Planning is how planners are asked.
	Planning Planning `embed:"" prefix:"planner-"`
	// Anthropic is where the planner anthropic asks.
	Anthropic Model `embed:"" prefix:"anthropic-"`

	LogLevel  string `default:"info" enum:"debug,info,warn,error" placeholder:"LEVEL" help:"What is logged on stderr: debug, info, warn or error."`
	LogFormat string `default:"text" enum:"text,json" placeholder:"FORMAT" help:"Form of the log: text or json."`
}

// SecretVariables are the variables of the environment that hold secrets, or may.
var SecretVariables = []string{
	"BUILDCAST_API_KEY", "BUILDCAST_API_KEYS", "BUILDCAST_DATABASE", "BUILDCAST_EGRESS_PROXY",
	"BUILDCAST_WEBHOOK_KEY", "BUILDCAST_WEBHOOK_SECRET", "BUILDCAST_WEBHOOK_URL",
	"ANTHROPIC_API_KEY", "CLOUDFLARE_API_TOKEN",
	"PGPASSWORD", // read by the Postgres driver
}

// Check reads the secrets that are kept in files (@FILE) and validates the rest.
// Errors are *buildcast.Error; they name the flag and never hold a secret.
func (c *Config) Check() error {
	if err := c.readSecrets(); err != nil {
		return err
	}
	for _, check := range []func() error{c.checkAddresses, c.checkPublic, c.checkLimits, c.checkSandbox, c.checkDatabase, c.Webhooks.check, c.Egress.check, c.checkRegistry, c.Cache.check, c.Cloudflare.check, c.Anthropic.check, c.checkPlanner, c.Deploy.check} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) readSecrets() (err error) {
	if c.Database, err = Secret("--database", c.Database); err != nil {
		return err
	}
	if err := c.Webhooks.readSecrets(); err != nil {
		return err
	}
	if err := c.Anthropic.readSecrets(); err != nil {
		return err
	}
	var keys []string
	for _, k := range c.APIKeys {
		text, err := Secret("--api-keys", k)
		if err != nil {
			return err
		}
		keys = append(keys, keysIn(text)...)
	}
	if len(keys) == 0 && len(c.APIKeys) > 0 {
		return invalid("--api-keys", "it is set, but holds no key: set at least one, or leave it out")
	}
	c.APIKeys = keys
	return nil
}

// keysIn splits a file's text: one key a line, # begins a comment.
func keysIn(text string) (keys []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			keys = append(keys, line)
		}
	}
	return keys
}

// Secret returns the value itself, or for @FILE the file's content, trimmed.
func Secret(flag, value string) (string, error) {
	file, ok := strings.CutPrefix(value, "@")
	if !ok {
		return value, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", invalid(flag, "cannot read %s: check the path after the @", file).Because(err)
	}
	return strings.TrimSpace(string(b)), nil
}

func (c *Config) checkAddresses() error {
	for flag, addr := range map[string]string{"--listen": c.Listen, "--preview-listen": c.PreviewListen} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return invalid(flag, "%q is not an address: use host:port, such as %s", addr, DefaultListen)
		}
	}
	if !Loopback(c.Listen) && len(c.APIKeys) == 0 && !c.Insecure {
		return invalid("--listen", "%s can be reached from other machines, and whoever reaches it could run commands here: "+
			"set BUILDCAST_API_KEYS to a secret of 16 characters or more, or listen on %s, or accept the risk with --insecure", c.Listen, DefaultListen)
	}
	return nil
}

func (c *Config) checkLimits() error {
	for flag, n := range map[string]int{"--builds": c.Builds, "--tasks": c.Tasks} {
		if n < 1 || n > 1000 {
			return invalid(flag, "it is %d: use 1 to 1000", n)
		}
	}
	if c.PreviewKeep < time.Minute {
		return invalid("--preview-keep", "it is %v: use 1m or more", c.PreviewKeep)
	}
	if c.KeepFailed < time.Minute {
		return invalid("--keep-failed", "it is %v: use 1m or more", c.KeepFailed)
	}
	if c.DrainTimeout <= 0 {
		return invalid("--drain-timeout", "it is %v: use more than 0, such as 10s", c.DrainTimeout)
	}
	if strings.TrimSpace(c.DataDir) == "" {
		return invalid("--data-dir", "it is empty: name a directory, such as %s", DefaultDataDir)
	}
	return nil
}

func (c *Config) checkDatabase() error {
	if c.Database == "" || strings.HasPrefix(c.Database, "postgres://") || strings.HasPrefix(c.Database, "postgresql://") {
		return nil
	}
	// The value is not shown: it may be a URL with a password in another form.
	return invalid("--database", "it is not a postgres:// URL: use postgres://user:password@host/name, or leave it empty for SQLite")
}

// Store describes the database for people, without its password.
func (c *Config) Store() string {
	if c.Database == "" {
		return "SQLite in " + c.DataDir
	}
	u, err := url.Parse(c.Database)
	if err != nil {
		return "Postgres"
	}
	return "Postgres at " + u.Host + u.Path
}

// LogValue returns the settings without secrets, for the log.
func (c *Config) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("listen", c.Listen), slog.String("preview_listen", c.PreviewListen), slog.String("data_dir", c.DataDir),
		slog.String("public_url", c.PublicURL), slog.Any("trusted_proxies", c.TrustedProxies), slog.String("preview_url", c.PreviewURL),
		slog.Any("allow_origins", c.AllowOrigins), slog.Bool("allow_credentials", c.AllowCredentials),
		slog.String("store", c.Store()), slog.Int("api_keys", len(c.APIKeys)), slog.Bool("insecure", c.Insecure),
		slog.Int("builds", c.Builds), slog.Int("tasks", c.Tasks),
		slog.Any("cache_max", c.Cache.Max), slog.Any("cache_min_free", c.Cache.MinFree), slog.Any("cache_reserved", c.Cache.Reserved),
		slog.Any("webhook_allow", c.Webhooks.Allow), slog.Bool("webhook_key", c.Webhooks.Key != ""), slog.Bool("webhook_url", c.Webhooks.URL != ""),
		slog.Any("egress_allow", c.Egress.Allow), slog.Any("egress_allow_private", c.Egress.AllowPrivate), slog.Bool("egress_proxy", c.Egress.Proxy != ""),
		slog.String("npm_registry", c.NPMRegistry),
		slog.Bool("cloudflare", c.Cloudflare.APIToken != ""), slog.Bool("deploy_command", c.Deploy.Command != ""),
		slog.String("planner", c.DefaultPlanner()), slog.String("model", c.Model),
	)
}

// File returns the path of a file in the data directory.
func (c *Config) File(name ...string) string {
	return filepath.Join(append([]string{c.DataDir}, name...)...)
}

// Loopback reports whether only this machine can reach the address. A host name
// other than localhost counts as reachable, because its address can change.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func invalid(flag, format string, args ...any) *buildcast.Error {
	return buildcast.Errorf(buildcast.InvalidArgument, flag+": "+format, args...).At(flag)
}
