// Package eventlog is the log's SQL: appending to it, reading it, and knowing
// which of its lives a position belongs to.
//
// # Order
//
// Position order is commit order. Every append takes one advisory lock as a
// statement of its own, draws its positions under it, and gives it up only
// when its rows are visible. So whoever sees position p sees, or will never
// see, every lower one, and a reader needs "position > cursor" and nothing
// else. A rolled-back append leaves a hole, never a late row.
//
// # Appending
//
// One commit at a time is bought back by group commit: the Appender takes
// whatever waits and appends it in one round trip, while the next batch forms.
// A group (one publish request) is atomic and gets a verdict of its own; one
// group's fate never touches another's. What is acknowledged is durable. After
// an unknown outcome the Appender tries again with the same ids.
//
// # Publishing with SQL
//
// Applications publish inside their own transactions by tailroom.publish, which
// puts a row into the outbox. One Relay among the instances moves the rows into
// the log, in their order; what cannot be an event it sets aside, with the reason.
//
// # Reading
//
// Pages carry the tip and the floor of the snapshot they were read in, so that
// an empty page still moves a cursor and a reader below the floor is noticed.
//
// The package knows nothing of catalogues, grants or sockets: who may append
// or read what is decided before.
//
//	log.go        Log: pages, single events, bounds
//	history.go    Query: filtered reads
//	row.go        a row as an event
//	epoch.go      the lives of the log
//	appender.go   Appender: the queue and its loop
//	queue.go      what waits for the next batch
//	lane.go       whose turn it is: the tenants share the log
//	line.go       what must wait for something else
//	scope.go      what may be judged together
//	heap.go       what goes before what
//	batch.go      groups as the arrays that SQL wants
//	verdict.go    what a publish is told: conflicts, duplicates, reused ids
//	relay*.go     Relay: from the outbox into the log
//	outbox.go     what waits in the outbox, and what was rejected
//	partition.go  what the log is made of; partitions made ahead
//	redact.go     erasing the data of an event
package eventlog
