// Package buildcast holds the nouns of buildcast: builds, the events of a
// build's log, plans, and the status that a log folds to.
//
// One idea carries the whole product: each build has one log, and everything
// else is a cursor over it. A poll, a stream, a webhook endpoint, a terminal:
// each holds the id of the last event it has seen and asks for the events after
// it. A build's own state is a fold of its log (see [Status.Apply]), so a build
// that was interrupted continues from its log.
//
// The package uses the standard library only and does no I/O.
package buildcast
