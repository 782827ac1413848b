// Package browsertest follows builds with the JavaScript client in a real
// Chromium, through a network that refuses, cuts and holds back. It holds tests only.
package browsertest
