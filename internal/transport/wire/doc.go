// Package wire is what is under a WebSocket, whatever is spoken over it: the
// network connection, and the frames of RFC 6455.
//
// coder/websocket does the handshake, reads, answers and closes. What is sent takes
// a shorter way: one buffer with whole frames, written in one go to the connection
// that was captured at the hijack. Both write through the same lock, so frames never
// mix, and no write outlasts a peer who takes nothing.
//
//	capture.go  Capture: the ResponseWriter that is upgraded
//	line.go     Line: the one lock, write deadlines, pongs
//	frame.go    frames, plain and compressed
package wire
