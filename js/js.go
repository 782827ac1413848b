// Package js holds the JavaScript client's modules, so that the server can hand
// them to its own pages.
package js

import "embed"

// Source is the client as it is published: plain ES modules below src.
//
//go:embed src/*.js src/transports/*.js
var Source embed.FS
