// Package peer is what instances ask of each other over HTTP. A polling client of
// Socket.IO speaks to one of them and, behind a balancer that does not stick, reaches
// any. Its session id names the owner, so whoever gets a request of another's client
// passes it on, and the answer back; polls, posts and WebSocket upgrades alike. And
// who resumes a client's session tells the others, where an older connection of the
// same client may not know yet that it is dead.
//
// What instances send bears a voucher: a header, signed with a key that is derived from
// CLUSTER_SECRET, with who sends it, to whom, when, and for which client. A request
// with that header is believed or refused, never passed on again; so there are no
// loops, and clients cannot write it.
//
// Nothing that must be right depends on any of this. When the owner is gone, the
// client is told that its session is unknown; it begins a new one anywhere, and goes
// on from the log.
//
//	switch.go    Switch: which request goes where
//	voucher.go   the voucher; seen.go: that it is used once
//	forward.go   passing on; socket.go: a WebSocket that is passed on
//	receive.go   taking what is passed on
//	takeover.go  telling the others of a session that was resumed here
//	metrics.go   the figures
package peer
