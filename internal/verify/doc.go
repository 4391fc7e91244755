// Package verify lets the log prove itself: it reads all that is stored and says
// where that breaks a promise.
//
// # What is checked
//
// Invariant 1, acknowledged ⇒ present exactly once, at the same position for
// ever. Each partition holds the positions it should and, once it was full, as
// many events as then; no position is above the sequence; each event is of the
// epoch that its position belongs to; no id is twice within the idempotency
// window; each id of the window points to its event, and each event that is as
// young as the window is known there.
//
// Invariant 3, versions are dense from 1 per stream: none is missing or there
// twice, they grow with the positions, and each stream's head is its last event.
//
// Invariant 5, not acknowledged and not found ⇒ never appears later. What is
// there at the beginning is counted and hashed, and again at the end: nothing has
// appeared behind the tip, has gone, or has changed.
//
// Invariant 8, a request is answered once. Each known request is an event that wants an
// answer, and its answer is the first later event that is one; each such event whose
// type has a reply is known. An answer whose data were erased is believed.
//
// What retention has dropped is gone rightly: below the floor nothing is
// expected. Positions that were never used, and a clock that was set back, are
// notes, not faults: neither breaks a promise.
//
// # The window
//
// An id is known for one window at least and two at most; which, the log does not
// keep. So the same id of a company twice is a fault if less than a window lies
// between the two by recorded_at, or if the older one is not older than the oldest
// id which is known. Otherwise it is a note. An event must be known if it was
// recorded after the last rotation, or if an older one is known. So if the oldest
// ids of the window's older half are lost, that cannot be told from a rotation.
//
// # On a log in use
//
// Everything is read in short statements on one read-only connection, a page at a
// time, without a lock that anybody waits for. Pages are of different moments.
// So what must agree is read in one statement where it can be, and where it
// cannot, a contradiction is only a suspicion, and is looked up again in one
// snapshot before it is a fault. Judged is what lies at or below the tip of the
// beginning. The events are read from there downwards, so that whatever might
// still appear behind the tip is counted before it can.
//
// Memory is bounded on both sides whatever the size of the log: a page, the
// faults that are shown, and maxMarks digests here; and nothing that is sorted or
// kept there, because pages come in the order of an index.
//
//	verify.go     Run: the connection, the steps, the progress
//	report.go     what was found
//	kind.go       the kinds of faults, and what to do about them
//	page.go       rows of pages
//	partition.go  partitions and the sequence
//	window.go     the idempotency window
//	event.go      each event by itself, and with what speaks of it
//	id.go         ids that are there twice
//	stream.go     versions and heads
//	request.go    requests and their answers
//	recount.go    the events once more
package verify
