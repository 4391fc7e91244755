package tailclient

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/coder/websocket"
)

// Close codes and ranges of the protocol that decide whether to come back.
const (
	goingAway    = 1001
	broken       = 1006 // never sent: the line ended without a close
	internal     = 1011
	overloaded   = 1013
	tokenExpired = 4002
	firstAgain   = 4000
	lastAgain    = 4099
)

// end is why a connection ended.
type end struct {
	text  string
	again bool          // come back
	token bool          // but with another token
	after time.Duration // and not before
}

func (e *end) Error() string { return e.text }

// never is an end that coming back would only repeat.
func never(text string) *end { return &end{text: text} }

// comeBack is the protocol's rule about close codes.
func comeBack(code int) bool {
	return code == goingAway || code == broken || code >= internal && code <= overloaded ||
		code >= firstAgain && code <= lastAgain
}

// explain makes an end of a failed read. said is the server's last complaint,
// cause why the read was given up.
func explain(err error, said string, cause error) *end {
	if closed, ok := errors.AsType[websocket.CloseError](err); ok {
		code := int(closed.Code)
		return &end{
			text:  fmt.Sprintf("the server closed the connection: %s (%d)", cmp.Or(said, closed.Reason, "it gave no reason"), code),
			again: comeBack(code), token: code == tokenExpired,
		}
	}
	text := "the connection broke: " + err.Error()
	switch {
	case cause != nil:
		text = cause.Error()
	case errors.Is(err, os.ErrDeadlineExceeded):
		text = "the line is dead: the server was not heard for two heartbeats"
	case errors.Is(err, io.EOF):
		text = "the connection broke"
	}
	return &end{text: text, again: comeBack(broken)}
}

// refusal makes an end of an HTTP answer, if there was one: what is wrong with
// the request stays wrong, what is wrong with the server may pass.
func refusal(response *http.Response, err error) error {
	if response == nil || response.StatusCode < 300 {
		return err
	}
	var problem struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	}
	_ = json.NewDecoder(io.LimitReader(response.Body, 1<<10)).Decode(&problem) // or it came from a proxy
	seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
	return &end{
		text:  fmt.Sprintf("the server answered %s: %s", response.Status, cmp.Or(problem.Detail, "it gave no reason")),
		again: response.StatusCode >= 500 || response.StatusCode == http.StatusTooManyRequests || problem.Code == "token_expired",
		token: problem.Code == "token_expired",
		after: time.Duration(seconds) * time.Second,
	}
}

// judge decides what an error of connect means. What is no end yet is a
// network that may mend.
func (f *follower) judge(ctx context.Context, err error) *end {
	e, ok := errors.AsType[*end](err)
	if !ok {
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err // what went wrong, without all that was being done
		}
		return &end{text: err.Error(), again: true}
	}
	if e.again && e.token {
		if token, err := f.Token(ctx); err != nil || token == f.token {
			return never(e.text)
		}
	}
	return e
}
