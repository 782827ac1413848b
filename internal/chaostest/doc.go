// Package chaostest runs real buildcast processes, kills them with SIGKILL at
// random moments, takes their database away, and checks afterwards that nothing
// that was acknowledged is lost, doubled or out of order. It holds tests only.
package chaostest
