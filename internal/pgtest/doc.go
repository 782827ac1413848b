// Package pgtest runs a real, private Postgres for tests and bench programs.
//
// The server keeps its data in a temporary directory, listens on a free port of
// 127.0.0.1, asks for no password (trust), and syncs its commits as one in
// production does. It ends with the process that started it, even if that is killed:
// a shell between the two reads from a pipe, and when the process no longer holds
// the other end, the shell stops the server and removes its directory.
//
// A package's tests share one server: TestMain is os.Exit(pgtest.Main(m)), and
// each test asks [URL] for a database of its own. A test that stops the server
// gets one for itself from [Start]. Programs use [Run].
//
// If BUILDCAST_TEST_POSTGRES holds the URL of a running server, [URL] creates its
// databases there.
package pgtest
