// Package browsertest follows builds with the JavaScript client in a real Chromium,
// through a network that refuses, cuts and delays connections. It tests the
// dashboard's pages too. It contains only tests.
package browsertest
