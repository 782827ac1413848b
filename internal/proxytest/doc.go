// Package proxytest runs real reverse proxies in front of a server, as
// docs/proxies.md configures them, and as they are by default.
//
// The tests here are those that take seconds; package browsertest shows the
// pages behind the same proxies to a Chromium.
package proxytest
