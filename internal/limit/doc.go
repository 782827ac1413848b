// Package limit bounds what clients can hold of a server: how many connections
// and sessions there are at once, and how long an answer or a request's body may
// take.
//
// [Crowd] decides who leaves when there are too many; [Listener] applies it to
// connections; [Deadlines] bounds each answer and each body. Nothing here knows
// what is served.
package limit
