// Package limit bounds the resources that clients can hold: the number of
// connections and sessions, and the time of an answer or a request's body.
//
// [Crowd] decides which client is displaced when there are too many; [Listener]
// applies it to connections; [Deadlines] bounds each answer and each body.
package limit
