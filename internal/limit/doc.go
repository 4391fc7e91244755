// Package limit holds the limits of an instance that somebody has to count for:
// how fast connections and companies may go, how many sessions a company or an
// address may have, how many connections there may be. What is refused is a
// *problem.Error, ready to be shown; every limit, here or elsewhere, counts what
// it refused in tailroom_limited_total.
//
// A limit that is off is a nil pointer, and costs a comparison. All of them are
// the instance's own: two instances let through twice as much.
//
//	limit.go        Limits, Name: what there is, and its metric
//	rate.go         events and frames in a second, by company
//	pace.go         Pace: what one WebSocket may send
//	seats.go        Seat: sessions by company and by address; Shares: places that addresses share
//	connections.go  Listener: the open connections; slow headers
//	peers.go        whose they are, and who goes first
//	outgoing.go     those to other instances
package limit
