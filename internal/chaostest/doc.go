// Package chaostest runs real buildcast processes, kills them with SIGKILL at random
// moments, stops their database, and checks afterwards that no acknowledged event is
// lost, doubled or out of order. It has tests only.
package chaostest
