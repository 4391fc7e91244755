// Package consumer keeps, for sessions that have a name, what they have
// acknowledged: whoever connects under the name again, on any instance, goes on
// behind it.
//
// # One live session
//
// A consumer is bound to a company and a subject, and has one live session. A newer
// one replaces it: its claim puts its own session into the consumer's row, and what
// the older one acknowledges from then on meets no row. So an instance that nobody
// hears any more can do no harm. It learns of it when it writes, within a second,
// and ends the session.
//
// # Acknowledged, at least once
//
// Acknowledgements are collected in memory and written once a second, all in one
// statement, and when a session ends, together with its end. What was not written
// when an instance died is delivered again; nothing is ever passed over. While the
// database is away they are kept, and new claims refused.
//
// Claims come in storms, when an instance goes and its clients come to the others.
// As with appends, the next batch of them forms while one is being made.
//
//	desk.go     Desk: who holds what; the loop
//	claim.go    one session's hold on its consumer
//	write.go    batches: claims, and what is to be written
//	read.go     consumers and receipts, for people
//	metrics.go  figures
package consumer
