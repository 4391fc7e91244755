package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// maxSent is what the server takes as one message by default, in bytes. A longer
// one would cost the connection.
const maxSent = 4 << 20

// errBroke says that a connection ended before the answer came.
var errBroke = errors.New("the connection ended before the answer came")

func (c *Client) current() *conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn
}

// connected waits for a connection.
func (c *Client) connected(ctx context.Context) (*conn, error) {
	for {
		c.mu.Lock()
		k, ended, changed := c.conn, c.ended, c.changed
		c.mu.Unlock()
		if k != nil {
			return k, nil
		}
		if ended != nil {
			return nil, ended
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// call says m until it is answered for good. agreed, if there is one, is given an
// answer that is no refusal where messages are read, before anything behind it; mu
// is held.
func (c *Client) call(ctx context.Context, m map[string]any, agreed func(message)) (message, error) {
	for n := 0; ; n++ {
		k, err := c.connected(ctx)
		if err != nil {
			return message{}, err
		}
		answer, err := k.ask(ctx, m, agreed)
		if errors.Is(err, errBroke) {
			continue
		}
		e, refused := errors.AsType[*Error](err)
		if !refused || !e.passing() && !e.aboutToken() {
			return answer, err
		}
		wait := max(pause(n), e.RetryAfter)
		c.cfg.Logger.WarnContext(ctx, "the server has not taken it yet", "component", "client", "error", e, "retry_in", wait)
		if cause := sleep(ctx, wait); cause != nil {
			return message{}, fmt.Errorf("%w; the last try: %w", cause, e)
		}
	}
}

// call is a message that waits for its answer.
type call struct {
	answer chan message
	agreed func(message)
	size   int // of the message, in bytes
}

// ask says m and waits for the answer. The error is an *Error if it is a refusal,
// or errBroke.
func (k *conn) ask(ctx context.Context, m map[string]any, agreed func(message)) (message, error) {
	ref, waits := k.expect(agreed)
	defer k.forget(ref)
	m["ref"] = ref
	text, err := encode(m)
	if err != nil {
		return message{}, err
	}
	k.mu.Lock()
	waits.size = len(text)
	k.mu.Unlock()
	if err := k.say(ctx, text); err != nil {
		return message{}, err
	}
	select {
	case answer := <-waits.answer:
		return answer, refusal(answer)
	case <-ctx.Done():
		return message{}, context.Cause(ctx)
	case <-k.done:
	}
	select {
	case answer := <-waits.answer: // the last word
		return answer, refusal(answer)
	default:
	}
	if e, ok := errors.AsType[*Error](k.reason); ok && e.Close == tooLarge && k.tooLong(len(text), e) {
		return message{}, e // this server takes less than usual
	}
	return message{}, errBroke
}

// tooLong reports whether a message of so many bytes is why the connection was closed.
// The server says what it takes. Something in between may not: then it was the
// largest that had no answer.
func (k *conn) tooLong(size int, why *Error) bool {
	var limit int
	if why.Field("limit", &limit) {
		return size > limit
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return size == k.largest
}

func (k *conn) expect(agreed func(message)) (uint64, *call) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refs++
	waits := &call{answer: make(chan message, 1), agreed: agreed}
	k.waiting[k.refs] = waits
	return k.refs, waits
}

func (k *conn) forget(ref uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if waits, ok := k.waiting[ref]; ok { // the server may have yet to come to it
		k.largest = max(k.largest, waits.size)
	}
	delete(k.waiting, ref)
}

func refusal(m message) error {
	if m.Type == "reply" && m.OK || m.Type == "pong" {
		return nil
	}
	if e := parseError(m.raw); e != nil {
		return e
	}
	return &Error{Code: "internal", Detail: "the server refused without a reason"}
}

// answer gives a message to whoever waits for it.
func (k *conn) answer(m message) {
	k.mu.Lock()
	waits, ok := k.waiting[m.Ref]
	delete(k.waiting, m.Ref)
	k.mu.Unlock()
	if !ok {
		return
	}
	if waits.agreed != nil && refusal(m) == nil {
		k.client.mu.Lock()
		waits.agreed(m)
		k.client.mu.Unlock()
	}
	waits.answer <- m
}

// post says m without an answer.
func (k *conn) post(ctx context.Context, m map[string]any) error {
	text, err := encode(m)
	if err != nil {
		return err
	}
	return k.say(ctx, text)
}

func encode(m map[string]any) ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	if len(text) > maxSent {
		return nil, &Error{
			Code: "too_large", Status: statuses["too_large"], Detail: fmt.Sprintf("the message has more than %d bytes", maxSent),
		}
	}
	return text, nil
}

func (k *conn) say(ctx context.Context, text []byte) error {
	select {
	case k.out <- text:
		return nil
	case <-k.done:
		return errBroke
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// renewAgain is the longest pause between attempts to renew a token.
const renewAgain = 5 * time.Second

// renew brings another token before the present one expires.
func (k *conn) renew(ctx context.Context, expires time.Time) {
	for {
		token, err := k.client.cfg.Token(ctx)
		if err == nil && token != k.client.shown("") {
			_, err = k.ask(ctx, map[string]any{"type": "auth", "token": token}, nil)
			if err == nil {
				k.client.shown(token)
				return
			}
		}
		if err != nil && ctx.Err() == nil {
			k.client.cfg.Logger.WarnContext(ctx, "the token was not renewed", "component", "client", "error", err)
		}
		if sleep(ctx, max(minPause, min(renewAgain, time.Until(expires)/4))) != nil {
			return
		}
	}
}
