// Package state keeps what each stream has come to: the data of its events, merged
// in their order by JSON merge patch (RFC 7396).
//
// # One fold
//
// A Projection, led by one instance, folds the log into a generation of states and
// moves that generation's checkpoint with them, in one transaction whose condition is
// the checkpoint of before. Folding depends on the events alone: whatever portions
// they come in and whoever folds them, the same comes out. So a rebuild, the states at
// the log's floor and those of the past are made by the same few functions.
//
// # As of a cursor
//
// A row is a stream's newest state. What it was at an earlier cursor is folded again,
// from the last keyframe before or the state at the floor, and at most 63 events, or
// 255 where the state is large. A
// Reader's pages, read at any time, are therefore true at whatever cursor is asked
// for, as long as the log goes back to it, and no transaction outlives a page.
//
//	patch.go       the merge
//	fold.go        an event onto a state; what is too large
//	heard.go       who could read all of its events
//	log.go         where the states stand; what a stream was at a position
//	step.go        a stretch of the log onto a generation
//	renew.go       redactions
//	write.go       states as SQL takes them
//	projection.go  Projection: the lead, the loop
//	rebuild.go     Rebuild: another generation, and the switch
//	floor.go       RaiseFloor: what retention must keep
//	reader.go      Reader: pages, waiting for a cursor
//	metrics.go     figures
package state
