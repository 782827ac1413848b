// Package examples holds the example plans that need no other files, for the
// dashboard.
package examples

import "embed"

// Plans holds plan files by their paths here.
//
//go:embed hello-site/plan.yaml
var Plans embed.FS
