// Package socketio speaks Socket.IO, revision 5 of its protocol, so that clients of
// the library work as they are: their namespaces are the catalogue's, their rooms
// those of the token, what they emit is published, and recovery is the log's.
//
// Each namespace that a client joins is a session of its own, with its grant, its
// cursor and its sink; those of one client share the Engine.IO connection. What ends
// a session closes that connection, so that the client comes back and goes on where it
// was. Only where it must not come back, its namespace is left by a DISCONNECT, and the
// others stay.
//
// Ordering: what a session says comes in the order of the log, behind the answer to
// CONNECT. What one connection emits is published in the order in which it came.
// An offset, once the client has it, covers all that was sent before it; so does what
// a consumer's ping acknowledges when its pong comes.
//
// It does not own the connection, heartbeats and transports: those are engineio's.
//
//	server.go     Server: what all connections have in common
//	conn.go       conn: the packets of one connection
//	namespace.go  CONNECT: token, start, refusals
//	socket.go     socket: a namespace that is joined, and how it ends
//	sink.go       what a session says, as packets
//	publish.go    what a client emits: publishes, requests
//	rooms.go      join and leave
//	answer.go     acknowledgements and exceptions
//	consumer.go   cursors that the server keeps for desktop apps
//	recovery.go   pid and offset
//	takeover.go   one socket for each public id
//	packet.go     the packets
//	binary.go     packets with attachments
//	metrics.go    figures
package socketio
