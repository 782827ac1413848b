// Package openapitest checks the OpenAPI document with the tools that its readers
// use: linters, and generators whose clients speak to a running server.
//
// The linters and TypeScript take seconds. The Go generators are built first, so
// they are tested with the build tag compat (make compat).
package openapitest
