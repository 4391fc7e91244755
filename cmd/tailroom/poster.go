package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// requestTimeout is more than the server takes for any request of ours.
	requestTimeout = time.Minute
	// The pause before the n-th try is drawn from [0, minPause × 2^n), at most
	// maxPause.
	minPause, maxPause = 200 * time.Millisecond, 5 * time.Second
)

// poster publishes lines of NDJSON over HTTP, in order. What the server cannot
// take at present it sends again: lines carry their events' ids, so nothing is
// published twice.
type poster struct {
	url      string
	token    func(context.Context) (string, error)
	patience time.Duration // how long to try again without any success
	notice   io.Writer     // told when trying again begins; nil: nobody
	http     http.Client
}

// answer is what the server says of one line.
type answer struct {
	Line         int               `json:"line"`
	Status       int               `json:"status"`
	Events       []json.RawMessage `json:"events"`
	Code         string            `json:"code"`
	Message      string            `json:"message"`
	RetryAfterMs int64             `json:"retryAfterMs"`
	Errors       []struct {
		Path    string `json:"path"`
		Message string `json:"message"`
	} `json:"errors"`
}

func (a *answer) refused() bool { return a.Status >= http.StatusBadRequest }

// duplicate reports whether all of the line was in the log already.
func (a *answer) duplicate() bool { return a.Status == http.StatusOK }

// later reports whether the line may be taken another time.
func (a *answer) later() bool {
	return a.Status == http.StatusServiceUnavailable || a.Status == http.StatusTooManyRequests
}

// reason is why a line was refused. The message tells of the first error.
func (a *answer) reason() string {
	reasons := []string{a.Code + ": " + a.Message}
	for _, e := range a.Errors[min(1, len(a.Errors)):] {
		reasons = append(reasons, e.Path+" "+e.Message)
	}
	return strings.Join(reasons, "; ")
}

// post publishes lines and calls settled for each. The error is why the rest
// could not be settled.
func (p *poster) post(ctx context.Context, lines []line, settled func(line, answer)) error {
	since, tries := time.Now(), 0
	for {
		rest, err := p.try(ctx, lines, settled)
		if err == nil || ctx.Err() != nil {
			return cmp.Or(ctx.Err(), err)
		}
		wait, ok := errors.AsType[*tryLater](err)
		if !ok {
			return err
		}
		if len(rest) < len(lines) {
			since, tries = time.Now(), 0
		}
		if time.Since(since) > p.patience {
			return fmt.Errorf("given up after %s: %w", p.patience, wait.error)
		}
		if tries == 0 && p.notice != nil {
			_, _ = fmt.Fprintf(p.notice, "trying again for up to %s: %v\n", p.patience, wait.error)
		}
		lines, tries = rest, min(tries+1, 10)
		pause := time.NewTimer(max(wait.after, rand.N(min(minPause<<(tries-1), maxPause))))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
}

// tryLater is an error that may pass.
type tryLater struct {
	error

	after time.Duration // and not before
}

// try makes one request, and returns the lines that are not settled, and why.
func (p *poster) try(ctx context.Context, lines []line, settled func(line, answer)) (rest []line, _ error) {
	var body bytes.Buffer
	for _, l := range lines {
		body.Write(l.json)
		body.WriteByte('\n')
	}
	target, err := url.JoinPath(p.url, "/v1/events")
	if err != nil {
		return lines, err
	}
	token, err := p.token(ctx)
	if err != nil {
		return lines, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, &body)
	if err != nil {
		return lines, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/x-ndjson")
	response, err := p.http.Do(request)
	if err != nil {
		return lines, &tryLater{error: err}
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return lines, refusal(response)
	}
	return settle(response.Body, lines, settled)
}

// settle reads the answers, and returns the lines that need another try.
func settle(body io.Reader, lines []line, settled func(line, answer)) (rest []line, why error) {
	answers := json.NewDecoder(body)
	for i, l := range lines {
		var a answer
		if err := answers.Decode(&a); err != nil {
			return append(rest, lines[i:]...), &tryLater{error: fmt.Errorf("the answer broke off: %w", err)}
		}
		if a.Line != i+1 {
			return append(rest, lines[i:]...), fmt.Errorf("the server answered line %d instead of %d", a.Line, i+1)
		}
		if !a.later() {
			settled(l, a)
			continue
		}
		rest, why = append(rest, l), &tryLater{error: errors.New(a.reason()), after: time.Duration(a.RetryAfterMs) * time.Millisecond}
	}
	return rest, why
}

// refusal is why a whole request was not taken.
func refusal(response *http.Response) error {
	var problem struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	}
	_ = json.NewDecoder(io.LimitReader(response.Body, 64<<10)).Decode(&problem) // or it came from a proxy
	err := fmt.Errorf("the server answered %s: %s", response.Status, cmp.Or(problem.Detail, "it gave no reason"))
	switch response.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusTooManyRequests:
		seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
		return &tryLater{error: err, after: time.Duration(seconds) * time.Second}
	default:
		return err
	}
}
