// Package sandbox knows how a command is confined by bubblewrap: which arguments
// bwrap gets, which system calls the seccomp filter refuses, what runs inside before
// the command does, and what it means if bwrap fails.
//
// Inside, the command sees the host's programs read-only, its workspace at /ws, its
// home at /home/build and its temporary directory at /tmp, each writable. It has user,
// process, network, mount, IPC and host-name namespaces of its own, no capabilities,
// and no way to get either. The network has only a loopback device; what the command
// may reach of the host is served there by bridges.
//
// The first process inside is this program again, see [Inner]. It is bound in
// read-only, sets the limits, serves the bridges and runs the shell.
package sandbox

// The paths inside.
const (
	Workspace = "/ws"
	Home      = "/home/build"
	Temp      = "/tmp"

	own = "/run/buildcast"
	// InnerPath is where this program is inside. A process that is started under this
	// name becomes the first process of a sandbox.
	InnerPath = own + "/init"
)
