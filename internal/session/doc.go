// Package session is the one loop that every connection runs, whatever its
// transport: read what comes after the cursor, send it, move the cursor on,
// and wait to be woken.
//
// Replay is not a mode: a session that resumes is one that starts further
// back. A slow socket is a session whose cursor lags; nothing queues up for it.
//
// A session owns its cursor, its subscriptions and its clock (heartbeats,
// bookmarks, the token's end and the warning of it, a drain). It does not own the connection: the
// transport makes it, runs it, and closes the connection with the Reason that
// Run returns. Methods are for the session's own goroutine unless they say otherwise;
// another goroutine gets there with Do.
//
// Ordering: frames are sent in the order of the log, each event once; a
// subscription takes effect at the cursor the session has at that moment.
//
//	session.go       Session: the loop
//	mailbox.go       how other goroutines reach it
//	start.go         where a session begins
//	consumer.go      a session whose acknowledged cursor the server keeps
//	frame.go         Frame, Sink: what a session says to its transport
//	subscription.go  which topics are followed
//	reason.go        why a session ends: the table of close codes
//	registry.go      all sessions of the instance, and how they are drained
//	report.go        what operators see of a session
//	expel.go         revoked tokens, and what operators disconnect
package session
