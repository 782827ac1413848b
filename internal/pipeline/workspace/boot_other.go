//go:build !linux

package workspace

// bootID is unknown on this system: workspaces are kept over a restart of the machine.
func bootID() string { return "" }
