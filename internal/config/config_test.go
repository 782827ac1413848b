package config

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
)

// parse fills a Config as the command line does.
func parse(t *testing.T, file string, args ...string) (Config, error) {
	t.Helper()
	var c Config
	options := []kong.Option{kong.DefaultEnvars("BUILDCAST"), kong.Exit(func(int) { t.Error("exit") })}
	if file != "" {
		f, err := parseFile("test.yaml", []byte(file))
		if err != nil {
			return c, err
		}
		options = append(options, kong.Resolvers(f))
	}
	k, err := kong.New(&c, options...)
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.Parse(args)
	return c, err
}

func defaults(t *testing.T) Config {
	t.Helper()
	c, err := parse(t, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDefaults(t *testing.T) {
	want := Config{
		Listen: DefaultListen, PreviewListen: DefaultPreviewListen, DataDir: DefaultDataDir,
		Builds: 4, Tasks: 4, PreviewKeep: 7 * 24 * time.Hour, KeepFailed: 24 * time.Hour, DrainTimeout: 10 * time.Second,
		Sandbox: "auto", Limits: Limits{Memory: 4 << 30, Processes: 2048, FileSize: 4 << 30, Disk: 20 << 30, CPU: 4 * time.Hour}, LogLevel: "info", LogFormat: "text",
		Webhooks:   Webhooks{Retries: []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute}},
		Deploy:     Deploy{Timeout: 15 * time.Minute},
		Cache:      Cache{Max: 10 << 30, MinFree: 2 << 30, Reserved: 1 << 30},
		Cloudflare: Cloudflare{Project: "buildcast-preview", ProductionBranch: "main", BaseURL: "https://api.cloudflare.com/client/v4"},
		Model:      "claude-sonnet-5-5",
		Planning: Planning{
			Timeout: 10 * time.Minute, MaxTokens: 32_000,
			MaxTokensBuild: 500_000, MaxTokensDay: 10_000_000, MaxCostBuild: 5, MaxCostDay: 50,
		},
		Anthropic: Model{BaseURL: "https://api.anthropic.com"},
	}
	got := defaults(t)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := got.Check(); err != nil {
		t.Error(err)
	}
}

func TestPrecedence(t *testing.T) {
	t.Setenv("BUILDCAST_BUILDS", "3")
	t.Setenv("BUILDCAST_TASKS", "3")
	file := "builds: 2\ntasks: 2\nlisten: 127.0.0.1:2\ninsecure: true\npreview-keep: 2h\nallow-origins: [https://a.example, 'https://b.example']\n"
	got, err := parse(t, file, "--tasks", "9")
	if err != nil {
		t.Fatal(err)
	}
	if got.Tasks != 9 || got.Builds != 3 || got.Listen != "127.0.0.1:2" || !got.Insecure || got.PreviewKeep != 2*time.Hour || got.LogLevel != "info" {
		t.Errorf("flag 9, environment 3, file 127.0.0.1:2 and true and 2h, default info: got %+v", got)
	}
	if want := []string{"https://a.example", "https://b.example"}; !cmp.Equal(got.AllowOrigins, want) {
		t.Errorf("origins %q", got.AllowOrigins)
	}
}

func TestFileErrors(t *testing.T) {
	tests := []struct{ name, file, want string }{
		{"unknown name", "listen: 127.0.0.1:1\nport: 80\n", `test.yaml:2: "port" is not a setting`},
		{"another style", "api_keys: secret-secret-secret\n", `test.yaml:1: "api_keys" is not a setting: did you mean api-keys?`},
		{"the file itself", "config: other.yaml\n", `"config" is not a setting`},
		{"twice", "builds: 1\nbuilds: 2\n", "test.yaml:2"},
		{"no mapping", "- builds\n", "test.yaml:1: the file is not a mapping"},
		{"nested", "database: {url: postgres://u:hunter2@h/d}\n", "test.yaml:1: database is not a plain value"},
		{"nested in a list", "api-keys: [[hunter2hunter2hunter2]]\n", "test.yaml:1: api-keys holds more than plain values"},
		{"not YAML", "builds: 1\n  api-keys: [hunter2\n", "not valid YAML"},
		{"wrong type", "builds: many\n", "--builds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(t, tt.file)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestFileMayBeEmpty(t *testing.T) {
	for _, file := range []string{"\n", "# nothing\n", "builds:\n", "---\n", "{}\n"} {
		got, err := parse(t, file)
		if err != nil || got.Builds != 4 {
			t.Errorf("%q: %v, builds %d", file, err, got.Builds)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
		flag   string
	}{
		{"all interfaces", func(c *Config) { c.Listen = ":8080" }, "--listen"},
		{"all IPv4 interfaces", func(c *Config) { c.Listen = "0.0.0.0:8080" }, "--listen"},
		{"all IPv6 interfaces", func(c *Config) { c.Listen = "[::]:8080" }, "--listen"},
		{"a host name", func(c *Config) { c.Listen = "localhost.example.com:8080" }, "--listen"},
		{"empty keys open nothing", func(c *Config) { c.Listen = ":80"; c.APIKeys = []string{} }, "--listen"},
		{"no port", func(c *Config) { c.Listen = "127.0.0.1" }, "--listen"},
		{"no preview port", func(c *Config) { c.PreviewListen = "nowhere" }, "--preview-listen"},
		{"another database", func(c *Config) { c.Database = "mysql://root:hunter2@db/x" }, "--database"},
		{"no builds", func(c *Config) { c.Builds = 0 }, "--builds"},
		{"too many tasks", func(c *Config) { c.Tasks = 1001 }, "--tasks"},
		{"previews for no time", func(c *Config) { c.PreviewKeep = 0 }, "--preview-keep"},
		{"failed builds' workspaces for no time", func(c *Config) { c.KeepFailed = time.Second }, "--keep-failed"},
		{"no time to drain", func(c *Config) { c.DrainTimeout = 0 }, "--drain-timeout"},
		{"no directory", func(c *Config) { c.DataDir = " " }, "--data-dir"},
		{"another planner", func(c *Config) { c.Planner = "oracle" }, "--planner"},
		{"a planner command that is not set", func(c *Config) { c.Planner = "command" }, "--planner"},
		{"anthropic without a key", func(c *Config) { c.Planner = "anthropic" }, "--planner"},
		{"no model", func(c *Config) { c.Model = "" }, "--model"},
		{"no time to plan", func(c *Config) { c.Planning.Timeout = 0 }, "--planner-timeout"},
		{"no tokens", func(c *Config) { c.Planning.MaxTokens = 0 }, "--planner-max-tokens"},
		{"less than no tokens", func(c *Config) { c.Planning.MaxTokensDay = -1 }, "--planner-max-tokens-day"},
		{"less than no money", func(c *Config) { c.Planning.MaxCostBuild = -1 }, "--planner-max-cost-build"},
		{"a gateway with a password", func(c *Config) { c.Anthropic.BaseURL = "https://u:hunter2@gateway" }, "--anthropic-base-url"},
		{"a key of two lines", func(c *Config) { c.Anthropic.APIKey = "hunter2\nhunter2" }, "--anthropic-api-key"},
		{"a file that is not there", func(c *Config) { c.APIKeys = []string{"@/nonexistent/hunter1"} }, "--api-keys"},
		{"a file without keys", func(c *Config) { c.APIKeys = []string{"@/dev/null"} }, "--api-keys"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := defaults(t)
			tt.change(&c)
			err := c.Check()
			if buildcast.CodeOf(err) != buildcast.InvalidArgument || !strings.HasPrefix(err.Error(), tt.flag+": ") {
				t.Errorf("error %v, want one about %s", err, tt.flag)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestCheckAllows(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"other loopback":    func(c *Config) { c.Listen = "127.8.9.1:0" },
		"IPv6 loopback":     func(c *Config) { c.Listen = "[::1]:8080" },
		"mapped loopback":   func(c *Config) { c.Listen = "[::ffff:127.0.0.1]:80" },
		"localhost":         func(c *Config) { c.Listen = "LocalHost:8080" },
		"keys":              func(c *Config) { c.Listen = ":80"; c.APIKeys = []string{"0123456789abcdef"} },
		"insecure":          func(c *Config) { c.Listen = ":80"; c.Insecure = true },
		"previews anywhere": func(c *Config) { c.PreviewListen = ":81" },
		"a planner command": func(c *Config) { c.Planner = "command"; c.Planning.Command = "true" },
		"a model's key":     func(c *Config) { c.Planner = "anthropic"; c.Anthropic.APIKey = "sk-1" },
		"no planner":        func(c *Config) { c.Planner = "static"; c.Anthropic.APIKey = "sk-1" },
		"Postgres":          func(c *Config) { c.Database = "postgresql:///buildcast?host=/run/postgresql" },
	} {
		c := defaults(t)
		change(&c)
		if err := c.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSecretsFromFiles(t *testing.T) {
	dir := t.TempDir()
	keys, db := filepath.Join(dir, "keys"), filepath.Join(dir, "db")
	for path, text := range map[string]string{
		keys: "# for CI\nkey-number-one-of-2\n\n  key-number-two-of-2  \n",
		db:   "postgres://u:hunter2@db.example/builds\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := defaults(t)
	c.APIKeys, c.Database = []string{"key-given-directly", "@" + keys}, "@"+db
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"key-given-directly", "key-number-one-of-2", "key-number-two-of-2"}; !cmp.Equal(c.APIKeys, want) {
		t.Errorf("keys %q", c.APIKeys)
	}
	if c.Database != "postgres://u:hunter2@db.example/builds" {
		t.Errorf("database %q", c.Database)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	c := defaults(t)
	c.APIKeys = []string{"hunter2-hunter2-hunter2"}
	c.Anthropic.APIKey = "sk-hunter2"
	var out bytes.Buffer
	for _, url := range []string{"postgres://u:hunter2@db:5432/builds?password=hunter2", "postgres://u:hunter2@%zz/builds"} {
		c.Database = url
		slog.New(slog.NewJSONHandler(&out, nil)).Info("settings", "config", &c)
		out.WriteString(c.Store())
	}
	if strings.Contains(out.String(), "hunter2") || !strings.Contains(out.String(), "Postgres at db:5432/builds") {
		t.Errorf("printed: %s", out.String())
	}
}

func TestDefaultPlanner(t *testing.T) {
	for _, tt := range []struct{ planner, command, key, want string }{
		{"", "", "", ""},
		{"", "true", "", "command"},
		{"", "", "sk-1", "anthropic"},
		{"", "true", "sk-1", "command"},
		{"anthropic", "true", "sk-1", "anthropic"},
		{"static", "true", "sk-1", "static"},
	} {
		c := defaults(t)
		c.Planner, c.Planning.Command, c.Anthropic.APIKey = tt.planner, tt.command, tt.key
		if got := c.DefaultPlanner(); got != tt.want {
			t.Errorf("%+v: got %q", tt, got)
		}
	}
}

func TestPrices(t *testing.T) {
	var p Price
	if err := p.UnmarshalText([]byte("claude-x=2.5/10")); err != nil || (p != Price{"claude-x", 2.5, 10}) {
		t.Errorf("%+v, %v", p, err)
	}
	for _, bad := range []string{"", "m", "m=", "m=1", "m=1/", "m=/1", "=1/2", "m=-1/2", "m=NaN/2", "m=1/Inf", "m=1/2/3"} {
		if err := p.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken: %+v", bad, p)
		}
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add("listen: 127.0.0.1:8080\nbuilds: 3\napi-keys: [a, b]\n")
	f.Add("a: &x [*x]\n? {b: c}\n: d\n")
	f.Add("---\n...\n---\n- 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := parseFile("f", []byte(text))
		if err == nil && file == nil || err != nil && buildcast.CodeOf(err) != buildcast.InvalidArgument {
			t.Errorf("%v, %v", file, err)
		}
	})
}
