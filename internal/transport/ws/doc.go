// Package ws speaks the WebSocket subprotocol tailroom.v1: one JSON object in
// each text message.
//
// What is under it is package wire's. A connection costs two goroutines: one reads,
// the other is the session.
//
//	handler.go   Handler: the upgrade
//	conn.go      conn: one connection from hello to close
//	message.go   what clients say
//	sink.go      what sessions say
package ws
