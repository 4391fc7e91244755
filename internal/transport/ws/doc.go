// Package ws speaks the WebSocket subprotocol tailroom.v1: one JSON object in
// each text message.
//
// coder/websocket does the handshake, reads, answers and closes. What a session
// sends takes a shorter way: one buffer with whole frames (RFC 6455), written in
// one go to the connection that was captured at the hijack. Both write through
// the same lock, so frames never mix. A connection costs two goroutines: one
// reads, the other is the session.
//
//	handler.go   Handler: the upgrade
//	conn.go      conn: one connection from hello to close
//	message.go   what clients say
//	sink.go      what sessions say
//	frame.go     RFC 6455 frames, plain and compressed
//	line.go      line: the one lock, write deadlines, pongs
package ws
