// Package hub reads each new event once for the whole instance and serves it
// to any number of readers.
//
// It holds a window: the newest events, byte-bounded, fed only from the log,
// in commit order, indexed by topic whether or not anybody follows it. A
// reader asks for what comes after its cursor. Inside the window that costs no
// SQL; before it, pages of the log are read, each page once however many ask
// for it at that moment, and only so many at a time: readers queue, nobody is
// refused. The caller cannot tell the difference: replay is the same loop,
// started further back.
//
// Nothing is pushed. A reader is woken (a signal without data) when one of its
// topics has news, and reads. There is no queue per reader, so a slow one
// costs nothing and loses nothing.
//
// Guarantees: a Batch's entries have strictly increasing positions above the
// cursor asked for, each once however many topics match, and Next never goes
// back. A cursor that cannot be served is an *event.Reset, never a gap.
//
//	hub.go      Hub: the window and its tail
//	epoch.go    a log that lost its end
//	topic.go    the index: what a topic holds, and who follows it
//	reader.go   Reader: one session's view
//	redact.go   data that were erased
//	cold.go     pages older than the window
//	locate.go   where a reader may begin
//	fresh.go    bounds read once for all who ask
package hub
