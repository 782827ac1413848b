package proxytest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Kind is a program that may be in front of the server.
type Kind struct {
	Name string // of its section in docs/proxies.md
	// Language marks its blocks of configuration there.
	Language string
	program  string
	pkg      string // the Debian package that contains it
	// Default is the smallest configuration that forwards requests.
	Default string
	// whole returns a complete configuration of the blocks, and the arguments to run it.
	whole func(dir, blocks string) (config string, args []string)
}

// The proxies in docs/proxies.md.
var (
	Nginx = Kind{
		Name: "nginx", Language: "nginx", program: "nginx", pkg: "nginx-light",
		Default: "server {\n    listen 443;\n    location / {\n        proxy_pass http://127.0.0.1:8080;\n    }\n}\n",
		whole:   nginx,
	}
	Apache = Kind{
		Name: "Apache", Language: "apache", program: "apache2", pkg: "apache2-bin",
		Default: "<VirtualHost *:443>\n    ProxyPass / http://127.0.0.1:8080/\n</VirtualHost>\n",
		whole:   apache,
	}
	HAProxy = Kind{
		Name: "HAProxy", Language: "haproxy", program: "haproxy", pkg: "haproxy",
		Default: "defaults\n    mode http\n    timeout connect 5s\n    timeout client 1m\n    timeout server 1m\n" +
			"frontend public\n    bind :443\n    default_backend buildcast\nbackend buildcast\n    server buildcast 127.0.0.1:8080\n",
		whole: haproxy,
	}
	Kinds = []Kind{Nginx, Apache, HAProxy}
)

// Addresses replace those of the documentation.
type Addresses struct {
	Port          int    // of the proxy, for 443
	API, Previews string // for 127.0.0.1:8080 and 127.0.0.1:8081
}

// Start runs the proxy with the configuration until the test ends, and returns
// when it accepts connections.
func (k Kind) Start(t *testing.T, config string, at Addresses) {
	t.Helper()
	path, err := exec.LookPath(k.program)
	if err != nil { // Debian installs servers in directories that only root's PATH has
		path = "/usr/sbin/" + k.program
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is not installed: run make deps, or apt-get install -y --no-install-recommends %s", k.program, k.pkg)
	}
	dir := t.TempDir()
	writeCertificate(t, dir)
	for from, to := range map[string]string{
		"listen 443": fmt.Sprintf("listen 127.0.0.1:%d", at.Port), "*:443": fmt.Sprintf("*:%d", at.Port), "bind :443": fmt.Sprintf("bind 127.0.0.1:%d", at.Port),
		"http://127.0.0.1:8080": "http://" + at.API, "http://127.0.0.1:8081": "http://" + at.Previews,
		"server buildcast 127.0.0.1:8080": "server buildcast " + at.API, "server buildcast 127.0.0.1:8081": "server buildcast " + at.Previews,
		"/etc/ssl/": dir + "/",
	} {
		config = strings.ReplaceAll(config, from, to)
	}
	if k.Name == Apache.Name {
		config = fmt.Sprintf("Listen 127.0.0.1:%d\n", at.Port) + config
	}
	config, args := k.whole(dir, config)
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, exec.CommandContext(t.Context(), path, args...), at.Port)
}

func run(t *testing.T, cmd *exec.Cmd, port int) {
	t.Helper()
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its workers too
		<-ended
	})
	tick := time.NewTicker(20 * time.Millisecond) // another program, which sends no signal
	defer tick.Stop()
	for range 1000 {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			c.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s has ended: %v", cmd.Path, cmd.ProcessState)
		case <-tick.C:
		}
	}
	t.Fatalf("%s takes no connections", cmd.Path)
}

func nginx(dir, blocks string) (string, []string) {
	temp := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temp += fmt.Sprintf("%s_temp_path %s/%[1]s;\n", kind, dir)
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;\n" // only the test's user may read the directory
	}
	return user + "daemon off;\npid " + dir + "/pid;\nevents {}\nhttp {\naccess_log off;\n" + temp + blocks + "}\n",
		[]string{"-e", "stderr", "-p", dir, "-c", dir + "/conf"}
}

// apacheModules are the needed ones of those that Debian's package enables.
const apacheModules = "mpm_event authz_core socache_shmcb alias"

func apache(dir, blocks string) (string, []string) {
	modules := ""
	for _, name := range strings.Fields(apacheModules + " " + enabledModules) {
		modules += fmt.Sprintf("LoadModule %s_module /usr/lib/apache2/modules/mod_%[1]s.so\n", name)
	}
	user := ""
	if os.Getuid() == 0 {
		user = "User www-data\nGroup www-data\n"
	}
	return "ServerRoot " + dir + "\nServerName localhost\nPidFile " + dir + "/pid\nDefaultRuntimeDir " + dir + "\nErrorLog /dev/stderr\nLogLevel error\n" + modules + user + blocks,
		[]string{"-X", "-f", dir + "/conf"}
}

// enabledModules are those that docs/proxies.md enables; a test compares them.
const enabledModules = "ssl http2 headers proxy proxy_http proxy_wstunnel"

func haproxy(dir, blocks string) (string, []string) {
	return "global\n    ssl-default-bind-options ssl-min-ver TLSv1.2\n    tune.ssl.default-dh-param 2048\n" + blocks, []string{"-q", "-db", "-f", dir + "/conf"}
}
