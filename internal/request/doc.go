// Package request lets a requester wait for his answer, on whatever instance.
//
// A request is an event, and so is its answer. Which answers which is decided by
// the append and kept in tailroom.requests. Whoever waits here is woken by events of
// his correlation id as the hub reads them, and then asks the table: the signal
// carries no data. So he gets the answer from the log, whoever gave it and where. As
// long as anybody waits, the table is asked every second besides: a lost signal, an
// outage or a log that has lost its end cost no more than that.
//
// A wait begins before its request can be in the log, so that nothing is missed. It
// ends with the answer, with the requester's patience, with his connection, or when
// the instance drains. The request stays open in any case: who asks again with its
// id, here or elsewhere, waits on.
//
// What waits is bounded: maxWaits for the instance, a quarter of that for a company,
// maxTalkWaits for a correlation id; and so are the bytes that are kept for them.
//
//	desk.go   Desk: asks, for every transport
//	waits.go  Waits: who waits, and follows the log
//	ask.go    asking the table for many at once
//	metrics.go
package request
