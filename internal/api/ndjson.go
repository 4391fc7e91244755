package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/publish"
)

const (
	// maxLines is how many lines a request has at most. Answers are kept until
	// the body has been read: a client that does not read while it writes would
	// otherwise never finish.
	maxLines = 100_000
	// maxAnswers bounds those answers, in bytes: a line can be a thousand events.
	maxAnswers = 32 << 20
	// linesAhead is how many groups of a request may wait for the log.
	linesAhead = 200
)

// lines publishes the lines of one request, each its own group, in order.
type lines struct {
	api     *api
	request *http.Request
	grant   access.Grant
	out     bytes.Buffer
	ahead   []waiting // in the order of the input
}

// waiting is a line whose answer is not written yet.
type waiting struct {
	number  int
	pending *publish.Pending
	err     error
}

func (a *api) publishLines(w http.ResponseWriter, r *http.Request, grant access.Grant) error {
	l := &lines{api: a, request: r, grant: grant}
	scanner := bufio.NewScanner(r.Body)
	scanner.Buffer(nil, int(a.MaxBody))
	// The last line needs no end, but the body does: what was cut off is no line.
	scanner.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		return bufio.ScanLines(data, atEOF && scanner.Err() == nil)
	})
	number := 0
	for expectMore(r); scanner.Scan(); expectMore(r) {
		if number++; number > maxLines || l.out.Len() > maxAnswers {
			l.ahead = append(l.ahead, waiting{number: number, err: problem.New(problem.TooLarge,
				"too much in one request: this line and what follows was not published").With("limit", maxLines)})
			break
		}
		if line := bytes.TrimSpace(scanner.Bytes()); len(line) > 0 {
			l.add(number, bytes.Clone(line))
		}
	}
	if err := scanner.Err(); err != nil {
		p := a.broken(err)
		if errors.Is(err, bufio.ErrTooLong) {
			a.Limits.Hit(limit.MessageBytes)
			p = problem.New(problem.TooLarge, "the line is too large; it and what follows was not read").With("limit", a.MaxBody)
		}
		l.ahead = append(l.ahead, waiting{number: number + 1, err: p})
	}
	for len(l.ahead) > 0 {
		l.settle()
	}
	// Who writes everything before he reads would be reset, and lose the answer,
	// if nothing took the rest.
	_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, a.MaxBody))
	w.Header().Set("Content-Type", typeNDJSON)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(l.out.Bytes()) // the client is gone: nobody to tell
	return nil
}

// add submits a line. When the log has enough to do it first waits for the
// request's own oldest lines, and when the company publishes too fast until it
// may go on: what comes as lines is not refused for coming quickly, but read more
// slowly.
func (l *lines) add(number int, line []byte) {
	events, err := group(line)
	var pending *publish.Pending
	for err == nil {
		pending, err = l.api.Publisher.Submit(l.grant, l, events)
		p, refused := errors.AsType[*problem.Error](err)
		switch {
		case refused && p.Code == problem.RateLimited && l.pause(p.Retry):
		case refused && p.Code == problem.Overloaded && len(l.ahead) > 0:
			l.settle()
		default:
			refused = false
		}
		if !refused {
			break
		}
		err = nil
	}
	l.ahead = append(l.ahead, waiting{number: number, pending: pending, err: err})
	if len(l.ahead) >= linesAhead {
		l.settle()
	}
}

// maxPause is how long a line waits before it is tried again.
const maxPause = time.Second

// pause waits, and reports whether the request goes on. As long as its body has not
// come to an end nobody hears of a client that has gone: its line waits for its turn,
// and is the last.
func (l *lines) pause(d time.Duration) bool {
	select {
	case <-time.After(min(d, maxPause)):
		return true
	case <-l.request.Context().Done():
		return false
	}
}

// settle waits for the oldest line and writes its answer. It waits on when the
// rest of the body came too late, though net/http takes that for the request's end.
func (l *lines) settle() {
	first := l.ahead[0]
	l.ahead = l.ahead[1:]
	answer := map[string]any{"line": first.number}
	if first.err == nil {
		receipts, err := first.pending.Wait(context.WithoutCancel(l.request.Context()))
		first.err = err
		answer["status"], answer["events"] = publishedStatus(receipts), publish.Results(receipts)
	}
	if first.err != nil {
		p := problem.From(first.err)
		l.out.Write(p.Message(map[string]any{"line": first.number, "status": p.Status()}))
		l.out.WriteByte('\n')
		return
	}
	encoded, err := json.Marshal(answer)
	if err != nil {
		panic("api: unencodable answer: " + err.Error()) // numbers, texts and cursors
	}
	l.out.Write(encoded)
	l.out.WriteByte('\n')
}
