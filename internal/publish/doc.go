// Package publish turns what a publisher says into a group for the log: it
// finds the company, the event type and the defaults, judges rights, rooms and
// data, and only then lets the group wait for the log. It is the one door for
// every transport, so a publish is refused for the same reasons everywhere.
//
// Errors are *problem.Error, ready to be shown.
//
//	input.go    input: an event as publishers write it
//	draft.go    from an input to a draft: rights, rooms, data
//	desk.go     Desk: groups of drafts, and their receipts
//	ask.go      Ask: an event that wants an answer
//	judge.go    Judge: what was published with SQL
//	explain.go  the log's errors as a publisher may see them
package publish
