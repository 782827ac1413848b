package sandbox

import "strings"

// cause is a reason why bwrap fails: what bwrap writes then, what it means, and the
// fix. docs/sandbox.md has the same table.
type cause struct {
	says  []string // one of them
	means string
	fix   string
}

var causes = []cause{
	{
		[]string{"No permissions to creat", "No permissions to create"},
		"this user may not make user namespaces: a container's seccomp profile refuses it, or kernel.unprivileged_userns_clone is 0",
		"in a container, start it with --security-opt seccomp=unconfined or a profile that allows clone, unshare and mount; else set kernel.unprivileged_userns_clone to 1",
	},
	{
		[]string{"nesting depth or /proc/sys/user/max_"},
		"the limit of namespaces is reached: user.max_user_namespaces is too low, or the server runs inside a sandbox itself",
		"raise user.max_user_namespaces, or run the server outside that sandbox",
	},
	{
		[]string{"loopback: Failed RTM_NEWADDR", "setting up uid map: Permission denied"},
		"AppArmor takes the rights from user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1, as on Ubuntu 23.10 and later)",
		"load AppArmor's profile bwrap-userns-restrict (package apparmor-profiles)",
	},
	{
		[]string{"Can't mount proc"},
		"parts of /proc are masked, as containers do, so no new /proc can be mounted",
		"start the container with --security-opt systempaths=unconfined (Podman: --security-opt unmask=ALL; Kubernetes: procMount: Unmasked and hostUsers: false)",
	},
	{
		[]string{"Failed to make / slave", "Failed to mount tmpfs", "pivot_root"},
		"the container or AppArmor refuses mounts",
		"start the container with --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined",
	},
	{
		[]string{"Unknown option"},
		"this bubblewrap is too old",
		"install bubblewrap 0.8.0 or later",
	},
	{
		[]string{"execvp " + InnerPath, "Can't find source path", "execvp"},
		"a file that the sandbox needs is missing",
		"start the server again if its program has been replaced or removed",
	},
}

// Cause explains why bwrap failed: which row of the table of causes it is, and the
// fix. output is what bwrap wrote.
func Cause(output string) string {
	output = strings.TrimSpace(output)
	for _, c := range causes {
		for _, says := range c.says {
			if strings.Contains(output, says) {
				return c.means + " (" + output + "): " + c.fix
			}
		}
	}
	if output == "" {
		output = "it wrote nothing"
	}
	return "bubblewrap failed (" + output + "): see docs/sandbox.md"
}
