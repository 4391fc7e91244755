package client

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"
)

// What can go wrong on this side.
var (
	// ErrOutboxFull says that what was to be stored was not.
	ErrOutboxFull = errors.New("the outbox is full")
	// ErrClosed says that the Client does not run any more.
	ErrClosed = errors.New("the client does not run")
	// ErrRunning says that Run was called while it runs.
	ErrRunning = errors.New("the client runs already")
)

// The server's refusals that programs ask for. errors.Is(err, ErrForbidden)
// compares the Code alone; every other code works as well, with a
// &Error{Code: …} of one's own.
var (
	ErrUnauthenticated = &Error{Code: "unauthenticated"}
	ErrTokenExpired    = &Error{Code: "token_expired"}
	ErrTokenRevoked    = &Error{Code: "token_revoked"}
	ErrForbidden       = &Error{Code: "forbidden"}
	ErrNotFound        = &Error{Code: "not_found"}
	ErrSchemaViolation = &Error{Code: "schema_violation"}
	ErrVersionConflict = &Error{Code: "version_conflict"}
	ErrIDReused        = &Error{Code: "id_reused"}
	ErrAlreadyAnswered = &Error{Code: "already_answered"}
	ErrCursorExpired   = &Error{Code: "cursor_expired"}
	ErrCursorDiverged  = &Error{Code: "cursor_diverged"}
	ErrTooLarge        = &Error{Code: "too_large"}
	ErrRateLimited     = &Error{Code: "rate_limited"}
	ErrUnavailable     = &Error{Code: "unavailable"}
	ErrReplyTimeout    = &Error{Code: "reply_timeout"}
	ErrReplaced        = &Error{Code: "replaced"} // a newer session of this consumer
)

// Error is what the server refused, or why it closed the connection.
type Error struct {
	Code   string // of the protocol's table, stable
	Status int    // the HTTP status that the answer had, or would have had
	Detail string // a sentence for people
	Close  int    // the code that the connection closed with; 0: it did not

	RetryAfter time.Duration // not before; 0: the server gave no advice
	Violations []Violation   // of schema_violation
	Conflicts  []Conflict    // of version_conflict
	// Fields are all fields of the answer, by name: "allowed", "resume",
	// "correlationId" and whatever else the code's row has.
	Fields map[string]json.RawMessage
}

// Violation is a place in an event's data that does not fit the schema.
type Violation struct {
	Path    string `json:"path"` // a JSON pointer (RFC 6901) into data
	Message string `json:"message"`
}

// Conflict is a stream with another version than the expected one.
type Conflict struct {
	Index           int    `json:"index"` // of the event in its group
	Namespace       string `json:"namespace"`
	Stream          string `json:"stream"`
	ExpectedVersion int64  `json:"expectedVersion"`
	CurrentVersion  int64  `json:"currentVersion"`
}

func (e *Error) Error() string {
	text := e.Code
	if text != "" && e.Detail != "" {
		text += ": "
	}
	text += e.Detail
	if e.Close != 0 {
		text += fmt.Sprintf(" (%d)", e.Close)
	}
	return text
}

// Is reports whether target is an *Error of the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Field decodes one of the answer's fields. It reports whether there is one that
// fits.
func (e *Error) Field(name string, v any) bool {
	return json.Unmarshal(e.Fields[name], v) == nil
}

// statuses are those of the protocol's codes, for errors that came without.
var statuses = map[string]int{
	"invalid_json": 400, "invalid_message": 400, "invalid_cursor": 400, "invalid_parameter": 400,
	"unauthenticated": 401, "token_expired": 401, "token_revoked": 401, "forbidden": 403, "not_found": 404, "request_timeout": 408,
	"version_conflict": 409, "id_reused": 409, "partial_duplicate": 409, "already_answered": 409,
	"cursor_expired": 410, "cursor_diverged": 410, "too_large": 413,
	"invalid_room": 422, "unknown_namespace": 422, "unknown_type": 422, "schema_violation": 422,
	"rate_limited": 429, "internal": 500, "unavailable": 503, "overloaded": 503, "draining": 503, "reply_timeout": 504,
}

// parseError reads a problem (RFC 9457), or the fields of an error or reply
// message. It returns nil if they have no code.
func parseError(text []byte) *Error {
	var said struct {
		Code         string      `json:"code"`
		Status       int         `json:"status"`
		Detail       string      `json:"detail"`
		Message      string      `json:"message"`
		RetryAfterMs int64       `json:"retryAfterMs"`
		Errors       []Violation `json:"errors"`
		Conflicts    []Conflict  `json:"conflicts"`
	}
	var fields map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(text, &said), json.Unmarshal(text, &fields)); err != nil || said.Code == "" {
		return nil //nolint:nilerr // it is no Error of the server's
	}
	return &Error{
		Code: said.Code, Status: cmp.Or(said.Status, statuses[said.Code]), Detail: cmp.Or(said.Detail, said.Message),
		RetryAfter: time.Duration(said.RetryAfterMs) * time.Millisecond,
		Violations: said.Errors, Conflicts: said.Conflicts, Fields: fields,
	}
}

// maxProblem bounds what is read of an answer that is an error.
const maxProblem = 1 << 20

// answerError makes an Error of an HTTP answer. One that is no problem came from
// something in between: it has no code.
func answerError(r *http.Response) *Error {
	text, _ := io.ReadAll(io.LimitReader(r.Body, maxProblem)) // what came of it must do
	seconds, _ := strconv.Atoi(r.Header.Get("Retry-After"))
	var e *Error
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind == "application/problem+json" {
		e = parseError(text)
	}
	if e == nil {
		line, _, _ := bytes.Cut(bytes.TrimSpace(text), []byte("\n"))
		e = &Error{Detail: fmt.Sprintf("the server answered %s: %.200q", r.Status, line)}
	}
	e.Status = r.StatusCode
	e.RetryAfter = max(e.RetryAfter, time.Duration(seconds)*time.Second)
	return e
}

// passing reports whether what was refused may be taken another time. A fault of the
// server's is no refusal: whether it was done is not known, and doing it again under
// the same id does no harm.
func (e *Error) passing() bool {
	switch e.Code {
	case "rate_limited", "unavailable", "overloaded", "draining", "request_timeout", "internal":
		return true
	case "": // not the server: a proxy that does not reach it, a portal that wants a password
		return true
	default:
		return false
	}
}

// aboutToken reports whether another token may help.
func (e *Error) aboutToken() bool {
	return e.Code == "unauthenticated" || e.Code == "token_expired" || e.Code == "token_revoked"
}
