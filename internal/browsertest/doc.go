// Package browsertest follows builds with the JavaScript client in a real
// Chromium, through a network that refuses, cuts and holds back, and looks at
// the dashboard with it. It holds tests only.
package browsertest
