//go:build !linux

package workspace

// bootID is not known here: workspaces are kept over a restart of the machine.
func bootID() string { return "" }
