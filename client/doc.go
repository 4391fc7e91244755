// Package client talks to Tailroom: it follows the log from a cursor that
// survives crashes, publishes, asks and answers, over one WebSocket
// (tailroom.v1) and HTTP.
//
// Server is where the server is and who the program is to it. By itself it is
// all that a backend needs: Publish, Request, History, State and Requests, over
// HTTP. A Client adds the connection that stays: New makes it, Run runs it.
//
//	c, err := client.New(client.Config{
//		Server:   client.Server{URLs: []string{"https://tailroom.example"}, Token: token},
//		Consumer: "printer-agent",
//		Handler:  func(ctx context.Context, e client.Event) error { … },
//	})
//	…
//	err = c.Run(ctx) // until ctx ends
//
// # What it promises
//
// Events come to Handler one at a time, in the order of the log, none left out.
// When Handler has returned nil the event is behind the cursor, and the cursor is
// kept by the server (Consumer), in a file (CursorFile), or in memory alone.
// What was handled shortly before a crash comes again after it, so a handler
// must be able to meet an event twice: what it publishes because of an event
// should have an id that follows from the event (Event.Reply and DeriveID).
// A handler's error ends Run, the event stays before the cursor, and the next Run
// begins with it.
//
// This is a function and not an iterator, because its result is the
// acknowledgement. Whoever leaves a loop does not say whether the last event
// was dealt with.
//
// If the log cannot go on from the cursor, OnReset hears of it, at the place in
// the order where events are missing. Without OnReset it ends Run. Nothing is
// skipped in silence.
//
// Publish and Request go through interruptions: each event gets its id before
// it is first sent, so sending it again does no harm, and they try until there is
// an answer or their context ends: give it a deadline. Enqueue writes to the outbox, a file, and
// returns when that is on the disk. What is in it is sent in order, across
// restarts, until the server has it or has refused it for good.
//
// A connection that ends is made again, after a random pause that grows from try
// to try, and not before the server's advice; a line that is dead is noticed when
// nothing was heard for two of the server's heartbeats. Run gives up only where
// the protocol says that coming back is no use (close codes 4100 to 4199, a hello
// that is too large or a request that is wrong), and returns the *Error. If that is about the token, the
// token source is first asked for another one.
//
// # What it costs
//
// A slow Handler holds nobody up. Up to 16 MiB of events and states wait for it; if
// there are more, the client stops following, and reads on from its cursor when the
// handler has caught up. A snapshot that is cut so begins anew, with twice the room
// each time, up to 1 GiB, so that it comes whole in the end. A Client that runs has three goroutines, four with an outbox,
// three more while it is connected, and none when Run has returned.
//
// Methods may be called from many goroutines, and from within Handler. Of the
// callbacks no two run at once, except OnStatus and OnRefused, which run beside
// the handler; OnStatus must not block.
//
//	server.go    Server, HTTP
//	http.go     Publish, Request, History, State, Requests
//	client.go   Config, Client: New, Run
//	dial.go     one connection after the other
//	conn.go     one connection: hello, messages
//	call.go     messages that are answered
//	dispatch.go from the queue to the handler, and the cursor
//	outbox.go   Enqueue; record.go: its file
package client
