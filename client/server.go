package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"
)

// Server is where the server is, and who the program is to it. Its methods speak
// HTTP, and try again for as long as their context lasts what may pass: a server
// that is away, overloaded or draining, or at fault, a limit on the rate. Give them a context
// with a deadline.
type Server struct {
	// URLs are the instances, or what stands before them: http(s)://host:port. If
	// there are several, the next is tried when one does not answer.
	URLs []string
	// Token returns the token to show. It is called for every connection, before a
	// token on a connection expires, and for every HTTP request. It may be called
	// from several goroutines at once.
	Token func(context.Context) (string, error)
	// CompanyID names the company if the token is good for every company.
	CompanyID string
	// HTTPClient makes the connections; nil is http.DefaultClient. It must not have
	// a Timeout if Request is to wait longer than that.
	HTTPClient *http.Client
}

// The pause before the n-th try again is drawn from [0, minPause × 2ⁿ), at most
// maxPause (full jitter): clients that were cut together do not come back
// together.
const minPause, maxPause = 500 * time.Millisecond, 30 * time.Second

func pause(n int) time.Duration { return rand.N(min(minPause<<min(n, 10), maxPause)) }

// sleep returns early, with its cause, when ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// check says what is missing.
func (s Server) check() error {
	if len(s.URLs) == 0 {
		return errors.New("no URL: name the server, such as http://127.0.0.1:3001")
	}
	for _, text := range s.URLs {
		if _, err := parseURL(text); err != nil {
			return err
		}
	}
	if s.Token == nil {
		return errors.New("no Token: give a function that returns the token to show")
	}
	return nil
}

func parseURL(text string) (*url.URL, error) {
	base, err := url.Parse(text)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("%q is not the address of a server, such as http://127.0.0.1:3001", text)
	}
	return base, nil
}

func (s Server) httpClient() *http.Client {
	if s.HTTPClient != nil {
		return s.HTTPClient
	}
	return http.DefaultClient
}

// request is an HTTP request that can be made again.
type request struct {
	method, path string
	query        url.Values
	body         any
}

// do makes the request until it is answered, and decodes the answer into v.
func (s Server) do(ctx context.Context, r request, v any) error {
	if err := s.check(); err != nil {
		return err
	}
	refused, last := "", error(nil)
	for n := 0; ; n++ {
		var body []byte
		if r.body != nil {
			var err error
			if body, err = json.Marshal(r.body); err != nil { // anew: what a request says depends on when it is made
				return fmt.Errorf("encoding: %w", err)
			}
		}
		token, err := s.Token(ctx)
		if err != nil {
			return fmt.Errorf("getting a token: %w", err)
		}
		if token == refused {
			return last
		}
		last = s.try(ctx, s.URLs[n%len(s.URLs)], token, r, body, v)
		if last == nil {
			return nil
		}
		wait := pause(n)
		if e, ok := errors.AsType[*Error](last); ok {
			wait = max(wait, e.RetryAfter)
			switch {
			case e.aboutToken():
				if refused == "" {
					wait = 0
				}
				refused = token
			case !e.passing():
				return last
			}
		}
		if n+1 < len(s.URLs) {
			wait = 0 // the others at once
		}
		if cause := sleep(ctx, wait); cause != nil {
			return fmt.Errorf("%w; the last try: %w", cause, last)
		}
	}
}

// try makes the request once.
func (s Server) try(ctx context.Context, base, token string, r request, body []byte, v any) error {
	target, err := parseURL(base)
	if err != nil {
		return err
	}
	target = target.JoinPath(r.path)
	target.RawQuery = r.query.Encode()
	request, err := http.NewRequestWithContext(ctx, r.method, target.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := s.httpClient().Do(request)
	if err != nil {
		return plain(err)
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusMultipleChoices {
		return answerError(response)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return &Error{Status: response.StatusCode, Detail: "the answer is not the server's: " + err.Error()}
	}
	return nil
}

// plain is what went wrong, without the request that it went wrong with.
func plain(err error) error {
	if inner, ok := errors.AsType[*url.Error](err); ok {
		return inner.Err
	}
	return err
}
