// Package pgtest runs a real, private Postgres for tests and bench programs.
//
// The server keeps its data in a temporary directory, listens on a free port of
// 127.0.0.1, lets anybody in (trust), and syncs its commits as one in
// production does. It ends with the process that started it, even with one that
// is killed: a shell between the two holds the read end of a pipe, and takes the
// server down and its directory away once nobody holds the other end.
//
// A package's tests share one server: TestMain is os.Exit(pgtest.Main(m)), and
// each test asks [URL] for a database of its own. A test that stops the server
// has one to itself with [Start]. Programs use [Run].
//
// Where BUILDCAST_TEST_POSTGRES holds the URL of a running server, [URL] makes
// its databases there.
package pgtest
