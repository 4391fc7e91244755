package engineio

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/tailroom/tailroom/internal/limit"
)

// poll is a GET. What it is answered comes once, and is written by the GET.
type poll struct {
	answer chan answer
	mark   string // what tells it from the client's others, if it has that
	passed bool   // by another instance
}

// maxMark is the longest mark of a GET that is looked at, in bytes.
const maxMark = 64

// newPoll reads the mark that clients put into each GET against caches.
func (s *Server) newPoll(r *http.Request) *poll {
	p := &poll{answer: make(chan answer, 1), passed: s.Passed(r)}
	if mark := r.URL.Query().Get("t"); len(mark) <= maxMark {
		p.mark = mark
	}
	return p
}

// repeats reports whether p is the GET of before, which a proxy has sent again because
// no answer came (RFC 9110, 9.2.2: it may): an instance that passed the answer on may have
// died with it. Of GETs that came straight here none is lost so, and careless clients
// may mark all alike.
func (p *poll) repeats(before *poll) bool {
	return before != nil && p.mark != "" && p.mark == before.mark && (p.passed || before.passed)
}

// answer is a payload, or a refusal.
type answer struct {
	payload []byte
	refusal *refusal
}

// get answers with all that waits, or waits for something to answer with.
func (c *Conn) get(w http.ResponseWriter, r *http.Request) {
	p := c.server.newPoll(r)
	c.park(p)
	var a answer
	select {
	case a = <-p.answer:
	case <-r.Context().Done():
		if c.abort(p) {
			return
		}
		a = <-p.answer // which went nowhere: the write tells
	}
	if a.refusal != nil {
		c.server.refuse(w, *a.refusal)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=UTF-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(a.payload)))
	w.WriteHeader(http.StatusOK)
	_, err := w.Write(a.payload) //nolint:gosec,nolintlint // typed as plain text
	if err == nil {
		err = http.NewResponseController(w).Flush()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.took()
	if err != nil {
		c.end(peerLost)
	}
}

// park makes a GET the one that waits, and answers it if that is not necessary.
func (c *Conn) park(p *poll) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.phase == closed && len(c.farewell) > 0:
		c.parked = p
		c.release(c.farewell[0])
		if c.farewell = c.farewell[1:]; len(c.farewell) == 0 {
			c.server.forget(c.sid)
		}
	case c.phase == closed:
		p.answer <- answer{refusal: &sidUnknown}
	case c.phase != onPolling:
		p.answer <- answer{refusal: &badRequest}
	case c.parked != nil: // two at once
		c.end(ending{reason: unparsable.reason, word: transportError, poll: closePacket})
		p.answer <- answer{refusal: &badRequest}
	case p.repeats(c.polled): // what it was answered is lost: the client is to begin again
		c.end(peerLost)
		p.answer <- answer{refusal: &sidUnknown}
	default:
		c.beat.stirred = true
		c.parked, c.polled = p, p
		c.serve()
	}
}

// serve gives what waits to the GET that waits. It is for who holds mu.
func (c *Conn) serve() {
	if c.phase == onPolling && c.parked != nil && len(c.out) > 0 {
		p := c.parked
		c.parked = nil
		p.answer <- answer{payload: c.take()}
	}
}

// release answers the GET that waits with something that did not wait. It is for who
// holds mu.
func (c *Conn) release(payload []byte) {
	p := c.parked
	c.parked = nil
	c.taking++
	p.answer <- answer{payload: payload}
}

// abort ends the connection of a client that left while his GET waited. It reports
// false if the GET was answered by then.
func (c *Conn) abort(p *poll) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parked != p {
		return false
	}
	c.parked = nil
	c.end(peerLost)
	return true
}

// post takes a payload in.
func (c *Conn) post(w http.ResponseWriter, r *http.Request) {
	refused := c.beginPost()
	if refused == nil {
		refused = c.takeIn(r)
		c.mu.Lock()
		c.posting = false // before the client can send the next one
		c.mu.Unlock()
	}
	if refused != nil {
		c.server.refuse(w, *refused)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html") // as the official server says
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", "2")
	_, _ = io.WriteString(w, "ok") // a client that is lost, the next ping finds out
}

func (c *Conn) beginPost() *refusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.phase == closed:
		return &sidUnknown
	case c.phase != onPolling:
		return &badRequest
	case c.posting:
		c.end(ending{reason: unparsable.reason, word: transportError, poll: closePacket})
		return &badRequest
	}
	c.posting = true
	return nil
}

// takeIn reads the payload of a POST and takes its packets in.
func (c *Conn) takeIn(r *http.Request) *refusal {
	most := c.server.MaxPayload
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/octet-stream") { // version 3's binary payloads
		c.shut(unparsable)
		return &badRequest
	}
	if r.ContentLength > most {
		return c.oversize()
	}
	payload, err := io.ReadAll(io.LimitReader(r.Body, most+1))
	switch {
	case err != nil:
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.server.Limits.Hit(limit.BodyTimeout)
		}
		c.shut(peerLost)
		return &badRequest
	case int64(len(payload)) > most:
		return c.oversize()
	}
	c.calling.Lock()
	defer c.calling.Unlock()
	for p, err := range packets(payload) {
		e := &unparsable
		if err == nil {
			e = c.receive(p)
		}
		if e == nil {
			continue
		}
		c.shut(*e)
		if e.word == parseError {
			return &badRequest
		}
		return nil
	}
	return nil
}

func (c *Conn) oversize() *refusal {
	c.server.Limits.Hit(limit.MessageBytes)
	return &tooLarge
}
