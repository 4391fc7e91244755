package session

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
)

// retryPause is how long a session waits to read again when the log is away.
const retryPause = 500 * time.Millisecond

const (
	// warning is how long before the token's end its client is told, so that it can
	// bring another in time.
	warning = time.Minute
	// shortLived is what part of a token's life the warning takes at the most.
	// A client with short tokens would otherwise be warned as soon as it has
	// brought one.
	shortLived = 2
)

// Config is what a Session starts with.
type Config struct {
	ID        string // names the session to operators
	Origin    Origin // and says where its client is
	Open      Opener
	Sink      Sink
	States    States // for snapshots; nil where nobody asks for one
	Grant     access.Grant
	Rules     Rules
	Heartbeat time.Duration
	// Start is where the session begins, and Reset, when not nil, what it says
	// first because that is not where the client wanted to.
	Start event.Cursor
	Reset *event.Reset
}

// Session is one reader: a grant, its subscriptions, a cursor, a sink.
type Session struct {
	id        string
	sink      Sink
	states    States
	grant     atomic.Pointer[access.Grant] // changed by the session's own goroutine
	rules     Rules
	heartbeat time.Duration
	subs      atomic.Pointer[subscriptions] // changed by the session's own goroutine
	open      Opener
	feed      Feed // while Run runs
	mailbox   mailbox
	places    places // the Registry's
	origin    Origin
	number    int64                      // the Registry's; with watch and since set by it
	since     time.Time                  // when the session began
	watch     func(int64, func() Report) // nil: nobody
	claim     Claim                      // nil: it is no consumer
	consumer  string                     // its name; "": it is none

	cursor   event.Cursor // everything up to here was sent
	newest   event.Cursor // of the last event that was
	said     event.Cursor // the cursor the client knows
	live     bool         // the client was told that it is caught up
	degraded bool         // the client was told that the log is away

	snapshots []snapshot // that are owed before the next event, at the cursor

	reset   *event.Reset
	warnAt  time.Time // zero: the client knows when the token expires
	beatAt  time.Time
	retryAt time.Time   // zero: no retry
	leaveAt time.Time   // zero: no drain
	timer   *time.Timer // rings when something is due
	armed   time.Time   // and that is when
	rung    atomic.Bool
	done    chan struct{}
	frame   Frame

	ending     sync.Mutex // guards what the sink knows of the end
	expulsions int        // that wait in the mailbox
	leaving    time.Time  // zero: no drain
}

// New returns a Session that is subscribed to list. The error is a
// *problem.Error that says what was wrong with it.
func New(c Config, list []Subscription) (*Session, error) {
	subs, err := subscriptions{}.with(c.Grant, list, c.Rules)
	if err != nil {
		return nil, err
	}
	s := &Session{
		id: c.ID, origin: c.Origin, sink: c.Sink, states: c.States, rules: c.Rules, heartbeat: c.Heartbeat,
		open: c.Open, cursor: c.Start, said: c.Start, reset: c.Reset,
		mailbox: newMailbox(), done: make(chan struct{}),
	}
	s.subs.Store(&subs)
	s.hold(c.Grant)
	if err := s.owe(list); err != nil {
		return nil, err
	}
	return s, nil
}

// hold puts the session under a grant, and sees to it that its end is foretold:
// once for each end.
func (s *Session) hold(grant access.Grant) {
	known := s.grant.Swap(&grant)
	s.bound(func() {})
	if known != nil && known.Expires.Equal(grant.Expires) {
		return
	}
	begin := grant.IssuedAt
	if begin.IsZero() {
		begin = time.Now()
	}
	s.warnAt = grant.Expires.Add(-min(warning, grant.Expires.Sub(begin)/shortLived))
}

// bound changes when the session ends and tells the sink: a session that is stuck in a
// write reads no letter and no clock.
func (s *Session) bound(change func()) {
	s.ending.Lock()
	defer s.ending.Unlock()
	change()
	end := s.grant.Load().Expires
	if !s.leaving.IsZero() && s.leaving.Before(end) {
		end = s.leaving
	}
	if now := time.Now(); s.expulsions > 0 && now.Before(end) {
		end = now
	}
	s.sink.EndBy(end)
}

// ID is what operators call the session. Any goroutine may ask.
func (s *Session) ID() string { return s.id }

// Joined are the rooms the session is in, by namespace. Any goroutine may ask.
func (s *Session) Joined() map[string][]string { return s.subs.Load().joined(s.Grant()) }

// Grant is what the session may do at present. Any goroutine may ask.
func (s *Session) Grant() access.Grant { return *s.grant.Load() }

// Cursor is the session's place in the log.
func (s *Session) Cursor() event.Cursor { return s.cursor }

// Subscribe adds subscriptions, which take effect at the present cursor. On an
// error nothing has changed. If they ask for snapshots there must be states at that
// cursor, which is waited for.
func (s *Session) Subscribe(ctx context.Context, list []Subscription) error {
	subs, err := s.subs.Load().with(s.Grant(), list, s.rules)
	if err != nil {
		return err
	}
	if err := AwaitStates(ctx, s.states, list, s.cursor); err != nil {
		return err
	}
	if err := s.owe(list); err != nil {
		return err
	}
	s.follow(subs)
	return nil
}

// Unsubscribe takes subscriptions away. On an error nothing has changed.
func (s *Session) Unsubscribe(list []Subscription) error {
	subs, err := s.subs.Load().without(s.Grant(), list, s.rules)
	if err != nil {
		return err
	}
	s.follow(subs)
	return nil
}

// Renew puts the session under a new grant of the same subject and company.
func (s *Session) Renew(grant access.Grant) {
	s.hold(grant)
	s.follow(s.subs.Load().under(grant))
}

func (s *Session) follow(subs subscriptions) {
	s.subs.Store(&subs)
	topics := subs.topics(s.Grant())
	s.feed.Follow(topics)
	if s.claim != nil {
		s.claim.Follow(topics)
	}
	s.changed()
}

// Do runs fn in the session's goroutine, between two batches, and returns when
// it has. An error from fn ends the session as one from the sink does. It
// returns without having run fn when the session has ended.
func (s *Session) Do(fn func() error) {
	ran := make(chan struct{})
	if !s.mailbox.post(func() error { defer close(ran); return fn() }) {
		return
	}
	select {
	case <-ran:
	case <-s.done:
	}
}

// Leave asks the session to say goodbye and to end after a delay. It does not
// wait; a second call changes nothing.
func (s *Session) Leave(delay time.Duration) {
	at := time.Now().Add(delay)
	s.bound(func() {
		if s.leaving.IsZero() {
			s.leaving = at
		}
	})
	s.mailbox.post(func() error {
		if !s.leaveAt.IsZero() {
			return nil
		}
		s.leaveAt = time.Now().Add(delay)
		return s.send(Frame{Kind: GoAway, Text: Draining.Name, Delay: delay, Cursor: s.cursor})
	})
}

// Expel asks the session to end at once for a reason, if it is meant when it comes
// to look: its token may have been renewed by then. It does not wait.
func (s *Session) Expel(reason Reason, meant func(*Session) bool) {
	s.bound(func() { s.expulsions++ })
	s.mailbox.post(func() error {
		if !meant(s) {
			s.bound(func() { s.expulsions-- })
			return nil
		}
		if err := s.send(Frame{Kind: GoAway, Text: reason.Name, Cursor: s.cursor}); err != nil {
			return err
		}
		return reason
	})
}

// Run reads and sends until the sink fails, the token expires, the session is
// asked to leave or expelled, or ctx ends, and returns why.
func (s *Session) Run(ctx context.Context) Reason {
	defer close(s.done)
	defer s.Release()
	defer s.mailbox.close()
	s.feed = s.open(s.subs.Load().topics(s.Grant()), s.mailbox.wake)
	defer s.feed.Close()
	defer context.AfterFunc(ctx, s.mailbox.signal)()
	// The first beat comes anywhere in the first interval: sessions that
	// arrived together must not beat together for ever.
	s.beatAt = time.Now().Add(s.heartbeat/2 + rand.N(s.heartbeat/2))
	s.armed = s.beatAt
	s.timer = time.AfterFunc(time.Until(s.armed), s.ring)
	defer s.timer.Stop()
	err := s.loop(ctx)
	if reason, ok := errors.AsType[Reason](err); ok {
		return reason
	}
	return Gone
}

func (s *Session) loop(ctx context.Context) error {
	if s.reset != nil {
		if err := s.send(Frame{Kind: Reset, Reset: s.reset}); err != nil {
			return err
		}
	}
	for {
		more, err := s.next(ctx)
		if err != nil {
			return err
		}
		s.arm()
		if !more {
			<-s.mailbox.wake
		}
		if err := s.attend(ctx); err != nil {
			return err
		}
	}
}

// attend does what the session was woken for beside news.
func (s *Session) attend(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, letter := range s.mailbox.take() {
		if err := letter(); err != nil {
			return err
		}
	}
	// The timer is asked, not the clock: were that set back in between, nobody
	// would ever arm the timer again.
	if s.rung.Swap(false) {
		s.armed = time.Time{}
		return s.tick(ctx, time.Now())
	}
	return nil
}

// ring is for the timer.
func (s *Session) ring() {
	s.rung.Store(true)
	s.mailbox.signal()
}

// next sends what comes next, and reports whether there is more to send at once.
func (s *Session) next(ctx context.Context) (more bool, err error) {
	if !s.retryAt.IsZero() {
		return false, nil
	}
	if len(s.snapshots) > 0 {
		return s.snapshot(ctx)
	}
	return s.read(ctx)
}

// read sends one batch and reports whether there is more to read at once.
func (s *Session) read(ctx context.Context) (more bool, err error) {
	b, err := s.feed.Read(ctx, s.cursor)
	if err != nil {
		return s.readFailed(ctx, err)
	}
	// Only a batch that says "nothing new" leaves the cursor where it is.
	moved := b.Next.Position - s.cursor.Position
	if nothingNew := b.Live && len(b.Entries) == 0; moved < 0 || moved == 0 && !nothingNew {
		slog.ErrorContext(ctx, "a read neither waited, nor failed, nor moved the cursor on",
			"component", "session", "cursor", s.cursor.String(), "next", b.Next.String())
		return false, Internal
	}
	if len(b.Entries) > 0 {
		if err := s.send(Frame{Kind: Events, Entries: b.Entries, Cursor: b.Next}); err != nil {
			return false, err
		}
		s.newest = b.Entries[len(b.Entries)-1].Cursor
	}
	s.cursor = b.Next
	switch {
	case b.Degraded != "":
		return !b.Live, s.sayDegraded(b.Degraded)
	case b.Live && !s.live:
		s.live, s.degraded = true, false
		return false, s.send(Frame{Kind: Live, Cursor: s.cursor})
	}
	return !b.Live, nil
}

func (s *Session) readFailed(ctx context.Context, err error) (more bool, _ error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if reset, ok := errors.AsType[*event.Reset](err); ok {
		s.cursor, s.said, s.live = reset.Resume, reset.Resume, false
		return true, s.send(Frame{Kind: Reset, Reset: reset})
	}
	slog.WarnContext(ctx, "a session cannot read the log", "component", "session", "error", err)
	s.retry()
	return false, s.sayDegraded("the log cannot be read")
}

// retry has the session try again in a while.
func (s *Session) retry() { s.retryAt = time.Now().Add(retryPause/2 + rand.N(retryPause)) }

// sayDegraded tells the client once that the log is away; Live follows.
func (s *Session) sayDegraded(reason string) error {
	if s.degraded {
		return nil
	}
	s.degraded, s.live = true, false
	return s.send(Frame{Kind: Degraded, Text: reason, Cursor: s.cursor})
}

// send passes a frame to the sink. The frame is the session's own, so that
// none is allocated for each.
func (s *Session) send(f Frame) error {
	switch f.Kind {
	case Events, Live, Bookmark:
		s.said = f.Cursor
	case Reset, Degraded, Expiring, GoAway, Snapshot:
	}
	s.frame = f
	err := s.sink.Send(&s.frame)
	s.frame.Entries, s.frame.States = nil, nil // the window must not be held by who is idle
	return err
}

// tick does what is due.
func (s *Session) tick(ctx context.Context, now time.Time) error {
	if !s.leaveAt.IsZero() && !now.Before(s.leaveAt) {
		return Draining
	}
	expires := s.grant.Load().Expires
	if !now.Before(expires) {
		if err := s.send(Frame{Kind: GoAway, Text: TokenExpired.Name, Cursor: s.cursor}); err != nil {
			return err
		}
		return TokenExpired
	}
	if !s.warnAt.IsZero() && !now.Before(s.warnAt) {
		s.warnAt = time.Time{}
		if err := s.send(Frame{Kind: Expiring, Expires: expires}); err != nil {
			return err
		}
	}
	if !now.Before(s.retryAt) {
		s.retryAt = time.Time{}
	}
	if now.Before(s.beatAt) {
		return nil
	}
	s.beatAt = now.Add(s.heartbeat)
	// The resume point of a quiet branch stays near the head: see how far the
	// log has come without anything for us.
	if _, err := s.next(ctx); err != nil {
		return err
	}
	if s.cursor != s.said {
		if err := s.send(Frame{Kind: Bookmark, Cursor: s.cursor}); err != nil {
			return err
		}
	}
	return s.sink.Heartbeat()
}

// arm sets the timer to what is due next.
func (s *Session) arm() {
	next := s.beatAt
	for _, t := range [...]time.Time{s.grant.Load().Expires, s.warnAt, s.retryAt, s.leaveAt} {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	if next != s.armed {
		s.armed = next
		s.timer.Reset(time.Until(next))
	}
}
