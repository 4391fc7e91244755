// Package engineio speaks Engine.IO version 4: messages over a WebSocket, over HTTP
// long-polling, or over polling first and a WebSocket from then on. What the messages
// say it does not know; that is its Handler's.
//
// A connection is in one phase after the other: polling, switching, upgraded, closed.
// One that begins with a WebSocket begins in switching. Until a connection is upgraded,
// what is to be sent waits in one buffer, which a GET takes whole; switching empties it
// to the WebSocket, in order, and only then does anybody write there directly. So a
// packet is in one place at any time, and is delivered once, by the transport that took it.
//
// A connection costs a goroutine that reads if it has a WebSocket, none of its own
// otherwise, and one timer.
//
// Locks are taken in this order: Conn.calling, Conn.mu, Server.mu. No I/O is done under
// the latter two.
//
//	handler.go    what is asked over HTTP, and how it is refused
//	server.go     Server: the connections of the instance
//	sid.go        session ids, which name their owner
//	payload.go    packets, and payloads of several
//	conn.go       Conn: the contract, and what is sent
//	receive.go    what comes
//	heartbeat.go  pings and pongs
//	polling.go    GET and POST
//	websocket.go  WebSockets
//	upgrade.go    from polling to a WebSocket
//	close.go      how connections end
package engineio
