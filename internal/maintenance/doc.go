// Package maintenance looks after the log while it is in use: partitions are made
// ahead, the idempotency window is rotated, full partitions are sealed, and what
// retention does not keep is dropped.
//
// # One leader
//
// Every instance has a Keeper; one of them leads, by an advisory lock on a
// connection of its own. The lock ends with the connection, and the connection
// with an instance that is not heard for idleTimeout, whatever has become of it.
// Another one takes the lead within beatPeriod then. Two may believe that they
// lead for a moment, so nothing depends on there being one: it only saves work.
// And whoever sees that hardly any partitions are left makes some himself.
//
// # Passes and sweeps
//
// A pass is short and comes every passPeriod, at the start, and when an append
// finds no partition: partitions, the window of ids, figures. What can take long
// is left to the sweep, on another connection: sealing reads whole partitions,
// and an old one is not gone before the last transaction that knows it has ended.
// Neither waits for anybody without a limit, and no failure of a duty keeps the
// others from being done. It is logged, counted, and tried again.
//
//	keeper.go     Keeper: the connection, the lead
//	duty.go       what a pass and a sweep are made of
//	pass.go       what is done every time
//	sweep.go      what can take long; sealing
//	retention.go  Policy: what is kept; dropping the rest
//	consumers.go  who lags behind it is warned of
//	requests.go   events that have become requests are taken in
//	metrics.go    figures
package maintenance
