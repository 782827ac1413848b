// Package proxytest runs real reverse proxies in front of a server, as
// docs/proxies.md configures them, and with their defaults.
//
// The tests here take seconds; package browsertest opens the pages behind the same
// proxies in a Chromium.
package proxytest
