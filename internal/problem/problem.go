// Package problem is the one table of what can go wrong in public: each code
// of the protocol with its HTTP status and title. Whatever a client is told
// about a failure is a *Error from here; anything else is answered as
// "internal" without its text, which goes to the log.
//
// HTTP shows an Error as RFC 9457 problem+json, sockets as an error or reply
// message; both carry the same code, text and fields.
package problem

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"time"
)

// Code is the stable name of a failure. Clients switch on it.
type Code string

// The codes of the protocol.
const (
	InvalidJSON      Code = "invalid_json"
	InvalidMessage   Code = "invalid_message"
	InvalidCursor    Code = "invalid_cursor"
	InvalidRoom      Code = "invalid_room"
	InvalidParameter Code = "invalid_parameter"
	Unauthenticated  Code = "unauthenticated"
	TokenExpired     Code = "token_expired"
	TokenRevoked     Code = "token_revoked"
	Forbidden        Code = "forbidden"
	NotFound         Code = "not_found"
	MethodNotAllowed Code = "method_not_allowed"
	UnsupportedMedia Code = "unsupported_media_type"
	UnknownNamespace Code = "unknown_namespace"
	UnknownType      Code = "unknown_type"
	SchemaViolation  Code = "schema_violation"
	VersionConflict  Code = "version_conflict"
	IDReused         Code = "id_reused"
	PartialDuplicate Code = "partial_duplicate"
	AlreadyAnswered  Code = "already_answered"
	StillConnected   Code = "consumer_connected"
	CursorExpired    Code = "cursor_expired"
	CursorDiverged   Code = "cursor_diverged"
	TooLarge         Code = "too_large"
	RequestTimeout   Code = "request_timeout"
	RateLimited      Code = "rate_limited"
	Unavailable      Code = "unavailable"
	Overloaded       Code = "overloaded"
	Draining         Code = "draining"
	ReplyTimeout     Code = "reply_timeout"
	Internal         Code = "internal"
)

var table = map[Code]struct {
	status int
	title  string
}{
	InvalidJSON:      {http.StatusBadRequest, "Not valid JSON"},
	InvalidMessage:   {http.StatusBadRequest, "Invalid message"},
	InvalidCursor:    {http.StatusBadRequest, "Invalid cursor"},
	InvalidRoom:      {http.StatusUnprocessableEntity, "Invalid room"},
	InvalidParameter: {http.StatusBadRequest, "Invalid parameter"},
	Unauthenticated:  {http.StatusUnauthorized, "Unauthenticated"},
	TokenExpired:     {http.StatusUnauthorized, "Token expired"},
	TokenRevoked:     {http.StatusUnauthorized, "Token revoked"},
	Forbidden:        {http.StatusForbidden, "Forbidden"},
	NotFound:         {http.StatusNotFound, "Not found"},
	MethodNotAllowed: {http.StatusMethodNotAllowed, "Method not allowed"},
	UnsupportedMedia: {http.StatusUnsupportedMediaType, "Unsupported media type"},
	UnknownNamespace: {http.StatusUnprocessableEntity, "Unknown namespace"},
	UnknownType:      {http.StatusUnprocessableEntity, "Unknown event type"},
	SchemaViolation:  {http.StatusUnprocessableEntity, "Data does not match the schema"},
	VersionConflict:  {http.StatusConflict, "The stream has another version"},
	IDReused:         {http.StatusConflict, "The id belongs to another event"},
	PartialDuplicate: {http.StatusConflict, "Some of the group is already published"},
	AlreadyAnswered:  {http.StatusConflict, "The request is already answered"},
	StillConnected:   {http.StatusConflict, "The consumer is connected"},
	CursorExpired:    {http.StatusGone, "The log no longer goes back that far"},
	CursorDiverged:   {http.StatusGone, "The log has no such past"},
	TooLarge:         {http.StatusRequestEntityTooLarge, "Too large"},
	RequestTimeout:   {http.StatusRequestTimeout, "The request came too slowly"},
	RateLimited:      {http.StatusTooManyRequests, "Too many, or too fast"},
	Unavailable:      {http.StatusServiceUnavailable, "The log is unavailable"},
	Overloaded:       {http.StatusServiceUnavailable, "Overloaded"},
	Draining:         {http.StatusServiceUnavailable, "This instance is going away"},
	ReplyTimeout:     {http.StatusGatewayTimeout, "No answer in time"},
	Internal:         {http.StatusInternalServerError, "Internal error"},
}

// Error is a failure as a client is told it.
type Error struct {
	Code   Code
	Detail string         // a sentence: what was wrong and what is allowed
	Fields map[string]any // what the code's row of the protocol adds
	Retry  time.Duration  // for Retry-After; 0 when trying again is no use
}

// New returns an Error with this code and sentence.
func New(code Code, detail string) *Error { return &Error{Code: code, Detail: detail} }

// With returns a copy of e with one more field.
func (e *Error) With(name string, value any) *Error {
	c := *e
	c.Fields = maps.Clone(e.Fields)
	if c.Fields == nil {
		c.Fields = map[string]any{}
	}
	c.Fields[name] = value
	return &c
}

// RetryAfter returns a copy of e that advises when to try again.
func (e *Error) RetryAfter(d time.Duration) *Error {
	c := *e
	c.Retry = d
	return &c
}

// Error makes an Error an error.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Detail }

// Status is the HTTP status of e's code.
func (e *Error) Status() int { return table[e.Code].status }

// From returns err as a client may see it: the *Error in its chain, or an
// Internal one that says nothing.
func From(err error) *Error {
	if p, ok := errors.AsType[*Error](err); ok {
		return p
	}
	return New(Internal, "the server failed; the operators have the details")
}

// JSON is the problem+json body of e.
func (e *Error) JSON() []byte {
	body := map[string]any{
		"type":   "urn:tailroom:problem:" + string(e.Code),
		"title":  table[e.Code].title,
		"status": e.Status(),
		"detail": e.Detail,
	}
	e.addTo(body)
	return encode(body)
}

// Message is e as a socket message with these leading fields, such as
// {"type":"error"} or {"type":"reply","ref":…,"ok":false}.
func (e *Error) Message(lead map[string]any) []byte {
	body := map[string]any{"message": e.Detail}
	e.addTo(body)
	maps.Copy(body, lead)
	return encode(body)
}

func (e *Error) addTo(body map[string]any) {
	maps.Copy(body, e.Fields)
	body["code"] = e.Code
	if e.Retry > 0 {
		body["retryAfterMs"] = e.Retry.Milliseconds()
	}
}

func encode(body map[string]any) []byte {
	b, err := json.Marshal(body)
	if err != nil { // fields are ours: strings, numbers and lists of them
		panic("problem: unencodable field: " + err.Error())
	}
	return b
}

// Write answers an HTTP request with e.
func (e *Error) Write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	e.SetRetry(h)
	if e.Status() == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="tailroom"`)
	}
	w.WriteHeader(e.Status())
	_, _ = w.Write(e.JSON()) // the client is gone: nobody to tell
}

// SetRetry sets Retry-After, if e advises it.
func (e *Error) SetRetry(h http.Header) {
	if e.Retry > 0 {
		h.Set("Retry-After", retrySeconds(e.Retry))
	}
}

// retrySeconds rounds up: Retry-After counts whole seconds.
func retrySeconds(d time.Duration) string {
	return strconv.Itoa(int((d + time.Second - 1) / time.Second))
}
