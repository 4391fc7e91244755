package peer

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/tailroom/tailroom/internal/cluster"
)

const (
	// takeoverPath is where instances tell of takeovers. It lies where Socket.IO is
	// served, whose clients have no use for it.
	takeoverPath = "/socket.io/takeovers"
	// takeoverPause is between two messages of takeovers.
	takeoverPause = 100 * time.Millisecond
	// takeoverTimeout bounds one.
	takeoverTimeout = 2 * time.Second
	// takeoverBatch is how many stand in one, and maxTakeovers its size in bytes.
	takeoverBatch = 1000
	maxTakeovers  = 256 << 10
	// takeoverQueue is how many wait. One that is forgotten ends with a ping that
	// nobody answers.
	takeoverQueue = 50_000
)

// takeover is a session that was resumed. Its age, and not a time, goes to the others:
// their clocks may differ.
type takeover struct {
	SID   string `json:"sid"`
	AgeMs int64  `json:"ageMs"`
}

// takeovers wait to be told of.
type takeovers struct {
	mu      sync.Mutex
	waiting map[string]time.Time
	wake    chan struct{}
}

func (t *takeovers) init() {
	t.waiting, t.wake = map[string]time.Time{}, make(chan struct{}, 1)
}

// Announce tells the others that a session was resumed here, by its public id. It does
// not wait.
func (s *Switch) Announce(sid string) {
	t := &s.takeovers
	t.mu.Lock()
	if len(t.waiting) < takeoverQueue {
		t.waiting[sid] = time.Now()
	}
	t.mu.Unlock()
	t.signal()
}

func (t *takeovers) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// take takes what waits, up to a batch.
func (t *takeovers) take() (batch []takeover) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for sid, at := range t.waiting {
		if len(batch) == takeoverBatch {
			t.signal()
			break
		}
		batch = append(batch, takeover{SID: sid, AgeMs: time.Since(at).Milliseconds()})
		delete(t.waiting, sid)
	}
	return batch
}

// announce tells of takeovers until ctx ends. A peer that takes its time holds nobody
// up.
func (s *Switch) announce(ctx context.Context) {
	var sending sync.WaitGroup
	defer sending.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.takeovers.wake:
		}
		if batch := s.takeovers.take(); len(batch) > 0 { // none when a wake came twice
			for _, p := range s.config.Peers.Peers(ctx) {
				sending.Go(func() { s.tell(ctx, p, batch) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(takeoverPause):
		}
	}
}

// tell tells one peer.
func (s *Switch) tell(ctx context.Context, p *cluster.Peer, batch []takeover) {
	err := s.post(ctx, p, batch)
	if err == nil {
		s.metrics.told.Add(float64(len(batch)))
		return
	}
	s.metrics.untold.Add(float64(len(batch)))
	if ctx.Err() == nil {
		s.warn(ctx, p, err)
	}
}

func (s *Switch) post(ctx context.Context, p *cluster.Peer, batch []takeover) error {
	ctx, cancel := context.WithTimeout(ctx, takeoverTimeout)
	defer cancel()
	body, err := json.Marshal(batch)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL.JoinPath(takeoverPath).String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	mine := newVoucher(s.config.Self, p.Incarnation)
	digest := sha256.Sum256(body)
	mine.body = digest[:]
	r.Header.Set(header, mine.sign(s.config.Keys[0], r.Method, r.URL.RequestURI()))
	r.Header["Idempotency-Key"] = nil // sent again on another connection, it is not taken twice
	answer, err := s.transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	return verdict(answer.Header.Get(header))
}

// hear takes in what another instance tells. Its voucher covers the body.
func (s *Switch) hear(w http.ResponseWriter, r *http.Request, voucher voucher, takenOver func(string, time.Time)) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTakeovers))
	digest := sha256.Sum256(body)
	var batch []takeover
	if err != nil || r.URL.Path != takeoverPath || !hmac.Equal(digest[:], voucher.body) || json.Unmarshal(body, &batch) != nil {
		s.refuse(w, r, badSignature)
		return
	}
	s.metrics.received.WithLabelValues(taken).Inc()
	now := time.Now()
	for _, t := range batch {
		takenOver(t.SID, now.Add(-time.Duration(t.AgeMs)*time.Millisecond))
	}
	slog.DebugContext(r.Context(), "sessions were resumed elsewhere", "component", "peer", "sessions", len(batch), "peer", voucher.from)
	w.Header().Set(header, taken)
	w.WriteHeader(http.StatusNoContent)
}
