// Package tailclient follows a Tailroom log over the WebSocket subprotocol
// tailroom.v1 for as long as its caller wants: it comes back after every
// interruption that the protocol says to come back from, and goes on behind
// the last event its caller has taken.
//
// There is no queue. While the caller is busy with a message nothing is read
// from the network, so a slow caller is a slow reader: the server waits for
// it, or cuts it, and it loses nothing.
//
//	follow.go     Follow: the loop over connections
//	message.go    Message: what the caller hears
//	connect.go    one connection: handshake, hello, messages
//	catalogue.go  the namespaces there are
//	line.go       a dead line is noticed
//	end.go        why a connection ended, and whether to come back
package tailclient
