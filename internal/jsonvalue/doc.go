// Package jsonvalue judges the data of an event before it reaches the log.
// PostgreSQL's jsonb refuses JSON that other parsers take, and one refused
// value would fail everybody's batch; it also prints 1e131071 with all its
// zeros. What passes Check is taken by jsonb, can be read by every client,
// and is as large as its publisher was told it is.
//
// The verdicts are told apart by their code:
//
//	invalid_json      not JSON: bad syntax or bad UTF-8
//	schema_violation  JSON, but no object, or something in it that jsonb or
//	                  IEEE doubles cannot hold; with the place
//	too_large         longer than allowed, with its numbers written out
//
// Only the form is judged. What an event's data must say is the catalogue's.
//
//	check.go      Check: objects, arrays, nesting, the path to a fault
//	text.go       strings and keys: UTF-8, escapes, surrogates
//	number.go     numbers: range and written-out length
//	violation.go  Violation and the error that lists them
package jsonvalue
