// Package revoke keeps what an instance knows of revoked tokens up to the log.
//
// A revocation is an event of the log, so every instance comes to read of it,
// whether it was there at the time or not. That event is a signal and carries no
// data: who is woken by it reads the table of the revocations behind the last
// position he knows. Besides, the table is looked at every second, so that a lost
// signal costs no more than that. What a log that has lost its end had revoked
// behind it is gone with it: when a new epoch has begun, the table is read anew.
package revoke

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/eventlog"
)

const (
	// pollPeriod is how long silence is trusted.
	pollPeriod = time.Second
	// retryPause is between two tries while the log is away.
	retryPause = 250 * time.Millisecond
	// pollTimeout bounds a look at the table. It is short, because a connection
	// that is dead must not hold up the next try when the log is back.
	pollTimeout = time.Second
	// pageTimeout bounds the reading of a page of it, and the first look. The whole
	// table may take longer: an instance does not start before it has read that.
	pageTimeout = 30 * time.Second
	// reloadPeriod is after how long the table is read anew, to forget what is
	// not in it any more.
	reloadPeriod = 10 * time.Minute
	// pageRows is how many are read at once.
	pageRows = 10_000
)

// Log is where revocations are read from.
type Log interface {
	// RevocationState returns the newest epoch, and the position of the newest
	// revocation.
	RevocationState(ctx context.Context) (epoch, newest int64, err error)
	// Revocations reads some behind a position, in order.
	Revocations(ctx context.Context, after int64, limit int) ([]eventlog.Revoked, error)
}

// Watch knows the revoked tokens. It is safe for concurrent use.
type Watch struct {
	log     Log
	changed func([]access.Revocation)
	known   access.Revocations
	refused prometheus.Counter
	wake    chan struct{} // capacity 1

	mu       sync.Mutex // of who reads the table
	epoch    int64
	position int64 // of the newest that is known
	reloadAt time.Time
}

// New returns a Watch that knows what the log has revoked by now. Changed is called
// with those among which are all that were not known before, and must not block for
// long.
func New(ctx context.Context, log Log, changed func([]access.Revocation), reg prometheus.Registerer) (*Watch, error) {
	f := promauto.With(reg)
	w := &Watch{log: log, changed: changed, wake: make(chan struct{}, 1), refused: f.NewCounter(prometheus.CounterOpts{
		Name: "tailroom_revoked_total", Help: "Requests and connections refused because their token was revoked.",
	})}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tailroom_revocations", Help: "Revocations that this instance knows.",
	}, func() float64 { return float64(w.known.Len()) })
	if err := w.refresh(ctx, pageTimeout); err != nil {
		return nil, err
	}
	return w, nil
}

// Covers reports whether the token of a grant is revoked, as far as is known.
func (w *Watch) Covers(g access.Grant) bool { return w.known.Cover(g) }

// Refuses is Covers for whoever refuses a token for it: that is counted.
func (w *Watch) Refuses(g access.Grant) bool {
	covers := w.known.Cover(g)
	if covers {
		w.refused.Inc()
	}
	return covers
}

// Wake says that there may be more. It does not block.
func (w *Watch) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run keeps the Watch up to the log until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	timer := time.NewTimer(pollPeriod)
	defer timer.Stop()
	away := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
		case <-timer.C:
		}
		err := w.Refresh(ctx)
		pause := pollPeriod
		if err != nil {
			pause = retryPause
		}
		if ctx.Err() == nil && (err != nil) != away {
			if away = err != nil; away {
				slog.WarnContext(ctx, "revocations cannot be read", "component", "revoke", "error", err)
			} else {
				slog.InfoContext(ctx, "revocations can be read again", "component", "revoke")
			}
		}
		timer.Reset(pause)
	}
}

// Refresh reads what the log has revoked since the last time.
func (w *Watch) Refresh(ctx context.Context) error { return w.refresh(ctx, pollTimeout) }

func (w *Watch) refresh(ctx context.Context, timeout time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	lookCtx, cancel := context.WithTimeout(ctx, timeout)
	epoch, newest, err := w.log.RevocationState(lookCtx)
	cancel()
	switch {
	case err != nil:
		return err
	case epoch != w.epoch || time.Now().After(w.reloadAt):
		return w.load(ctx, epoch)
	case newest <= w.position:
		return nil
	}
	list, position, err := w.read(ctx, w.position)
	if err != nil {
		return err
	}
	w.known.Add(list...)
	w.position = position
	w.changed(list)
	return nil
}

// load reads the whole table. What was known before holds until it is read.
func (w *Watch) load(ctx context.Context, epoch int64) error {
	list, position, err := w.read(ctx, 0)
	if err != nil {
		return err
	}
	w.known.Replace(list)
	w.epoch, w.position, w.reloadAt = epoch, position, time.Now().Add(reloadPeriod)
	w.changed(list)
	return nil
}

// read reads all behind a position, and returns where that ends.
func (w *Watch) read(ctx context.Context, after int64) (list []access.Revocation, last int64, _ error) {
	for {
		pageCtx, cancel := context.WithTimeout(ctx, pageTimeout)
		page, err := w.log.Revocations(pageCtx, after, pageRows)
		cancel()
		if err != nil {
			return nil, 0, err
		}
		for _, r := range page {
			list = append(list, access.Revocation{Tenant: r.Tenant, Subject: r.Subject, TokenID: r.TokenID, Before: r.Before})
			after = r.Position
		}
		if len(page) < pageRows {
			return list, after, nil
		}
	}
}
