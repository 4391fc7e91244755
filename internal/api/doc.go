// Package api is the HTTP surface: publishing, history, the catalogue and the
// server's own health. All routes are on one page, api.go; the transports that
// stream are handlers it only places.
//
// Every failure is a *problem.Error and is answered by one function. Nothing
// here decides about rights: the grant does.
//
//	api.go       the routes, and how they answer
//	body.go      how long a request's body may take, and what it may be
//	writer.go    how long its answer may take to be taken
//	publish.go   POST /v1/events
//	ndjson.go    the same, a group in each line
//	history.go   GET /v1/events and one event, GET /v1/streams
//	state.go     GET /v1/state
//	ticket.go    POST and DELETE /v1/tickets
//	health.go    liveness and readiness
package api
