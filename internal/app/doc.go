// Package app wires an instance together and takes it apart in the right
// order. It is the only package that sees both sides of every seam.
//
// Build connects, migrates, reads the newest part of the log and binds the
// port, and starts nothing: what is wrong with the settings or the database is
// an error from it. Run owns every goroutine; when it returns, none is left.
//
// Shutting down: not ready and no new streams; the outbox left to another
// instance; every session told to leave, spread out; HTTP requests finished; what
// is left cut; then the tail, the listener, the appender and the pools.
//
//	app.go      App: Build, Run
//	operate.go  what administrators order, and what the log tells of it
//	pools.go    connections to PostgreSQL
//	limits.go   the limits, and the listener that counts
//	tls.go      HTTPS
//	address.go  where the instance is reached
package app
