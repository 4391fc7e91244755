// Package event holds Tailroom's nouns: events and their ids, positions,
// epochs and cursors, rooms and streams, and the topics readers follow.
//
// It is the centre of the import graph: it depends on nothing of ours, does
// no I/O, and everything else may import it. What it guarantees is form: a
// value that was parsed here is valid, and an event is encoded here, once,
// so that the bytes delivered live are the bytes of replay and history.
//
//	cursor.go   Cursor, Start: positions in the log and where to begin
//	event.go    Event, the immutable fact; Draft, an event to be
//	encode.go   the envelope's bytes
//	entry.go    Entry, an encoded event shared by all its readers
//	name.go     namespaces, rooms, streams: forms and limits
//	topic.go    Topic, what a reader can follow
//	system.go   what the log says of itself
//	read.go     Bounds, Page, Batch, Reset, Epochs: what reading yields
package event
