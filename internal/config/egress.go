package config

import (
	"net/netip"
	"net/url"
)

// Egress is what the commands of builds may reach of the network.
type Egress struct {
	// Allow are hosts, see egress.ParsePattern.
	Allow []string `placeholder:"HOST" help:"Hosts that tasks and build commands with network: true in the plan may reach, such as registry.example.com or *.example.com. * is every host. A port other than 80 and 443 is written HOST:PORT, and is then open to install commands too. Default: none. Install commands reach every public host."`
	// AllowPrivate are ranges in which commands may reach hosts all the same.
	AllowPrivate []netip.Prefix `placeholder:"CIDR" help:"Private address ranges that commands may reach, such as 10.1.2.3/32 for a registry of your own. Default: none: loopback, private ranges and the metadata service of clouds are refused."`
	// Proxy is the proxy that connections of commands go through.
	Proxy string `placeholder:"URL" help:"Proxy that commands' connections go through, if it is this machine's only way out, such as http://proxy.example.com:3128. HTTPS_PROXY of the server's environment is not used. @FILE reads it from a file. Flags are visible in process lists: keep passwords in the environment or a file."`
}

func (e *Egress) check() (err error) {
	e.Proxy, err = Secret("--egress-proxy", e.Proxy)
	return err
}

// checkRegistry refuses credentials too: each command would read them.
func (c *Config) checkRegistry() error {
	if c.NPMRegistry == "" {
		return nil
	}
	u, err := url.Parse(c.NPMRegistry)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return invalid("--npm-registry", "it is not an http or https URL: use one such as https://npm.example.com/")
	}
	if u.User != nil {
		return invalid("--npm-registry", "it holds a user name or a password, which every command could read: leave them out")
	}
	return nil
}
