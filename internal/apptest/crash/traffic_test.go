package crash_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/check"
	"github.com/tailroom/tailroom/internal/apptest/sioclient"
	"github.com/tailroom/tailroom/internal/event"
)

// traffic is publishers, an application and followers at work on a cluster.
type traffic struct {
	cluster     *cluster
	publishers  []*publisher
	application *application
	followers   []*follower
	markers     []*publisher // one for each company; for the round itself
	leaver      *publisher   // likewise

	fail             context.CancelCauseFunc
	stopped          atomic.Bool
	writing, reading *errgroup.Group
	looks            int   // at the log, to compare
	tip              int64 // of the log, when everybody got on the last time
}

// newTraffic begins with a cluster that is well. Whoever is told what must not be
// gives up at once, and fails the round.
func newTraffic(ctx context.Context, t *testing.T, c *cluster, s *script, fail context.CancelCauseFunc) *traffic {
	t.Helper()
	tr := &traffic{cluster: c, fail: fail, writing: new(errgroup.Group), reading: new(errgroup.Group)}
	tokens := map[string]string{"c1": apptest.Token(t, access.Service, "c1"), "c2": apptest.Token(t, access.Service, "c2")}
	newPublisher := func(name, company string, givesUp bool, open func(token string) door) *publisher {
		return &publisher{
			name: name, door: open(tokens[company]), givesUp: givesUp, accepted: map[string][]apptest.Receipt{},
			writer: writer{random: s.random(), company: company, stream: "order:of " + name},
		}
	}
	byRequests := func(token string) door { return &requests{token} }
	byLines := func(token string) door { return &lines{token} }
	bySocket := func(token string) door { return &socket{token: token} }
	tr.publishers = []*publisher{
		newPublisher("requests", "c1", false, byRequests), newPublisher("lines", "c1", false, byLines),
		newPublisher("a socket", "c1", false, bySocket), newPublisher("the other company", "c2", false, byLines),
		newPublisher("requests, once", "c1", true, byRequests), newPublisher("lines, once", "c1", true, byLines),
		newPublisher("a socket, once", "c1", true, bySocket), newPublisher("the other company, once", "c2", true, byRequests),
	}
	tr.markers = []*publisher{newPublisher("the round", "c1", false, byRequests), newPublisher("the round", "c2", false, byRequests)}
	tr.leaver = newPublisher("the round, once", "c1", true, byLines)
	tr.application = &application{random: s.random(), cluster: c, accepted: map[string][]apptest.Receipt{}}
	tr.followers = audience(t, s)

	work := func(group *errgroup.Group, run func() error) {
		group.Go(func() error {
			err := run()
			if err != nil {
				fail(err)
			}
			return err
		})
	}
	for _, f := range tr.followers {
		work(tr.reading, func() error { return f.run(ctx, c.instances) })
	}
	for _, p := range tr.publishers {
		work(tr.writing, func() error { return p.run(ctx, c.instances, &tr.stopped) })
	}
	work(tr.writing, func() error { return tr.application.run(ctx, &tr.stopped) })
	return tr
}

// audience are followers of every kind: of a whole company and of some branches,
// of all rooms and of one, by sockets and streams, patient or not.
func audience(t *testing.T, s *script) []*follower {
	t.Helper()
	in := func(company, namespace string, rooms ...string) func(*event.Entry) bool {
		return func(e *event.Entry) bool {
			return e.Tenant == company && e.Namespace == namespace &&
				(rooms == nil || slices.ContainsFunc(e.Rooms, func(room string) bool { return slices.Contains(rooms, room) }))
		}
	}
	wide, branch := apptest.Token(t, access.Web, "c1"), apptest.Token(t, access.DesktopApp, "c1", "b1", "b3")
	other := apptest.Token(t, access.Web, "c2")
	var list []*follower
	for _, stream := range []bool{false, true} {
		for n, f := range []*follower{
			{token: wide, namespace: "/orders", matches: in("c1", "/orders")},
			{token: branch, namespace: "/orders", matches: in("c1", "/orders", "company:c1", "branch:b1", "branch:b3")},
			{token: wide, namespace: "/printing-ws", rooms: []string{"branch:b2"}, matches: in("c1", "/printing-ws", "branch:b2")},
			{token: other, namespace: "/orders", matches: in("c2", "/orders")},
			{token: wide, namespace: "/orders", rooms: []string{"branch:b1"}, matches: in("c1", "/orders", "branch:b1"), patient: true},
		} {
			f.stream, f.random, f.cursor, f.away = stream, s.random(), "1-0", 100*time.Millisecond
			if n < 2 {
				f.away = 1500 * time.Millisecond // longer than the window reaches
			}
			f.name = fmt.Sprintf("follower %d of %s", n, f.namespace)
			if stream {
				f.name += ", by streams"
			} else if n%2 == 1 {
				f.cursor = "now"
			}
			list = append(list, f)
		}
	}
	for _, f := range []*follower{
		{token: wide, namespace: "/orders", matches: in("c1", "/orders"), page: &page{transport: sioclient.WebSocket}},
		{token: other, namespace: "/orders", matches: in("c2", "/orders"), page: &page{transport: sioclient.Polling}},
		{
			token: wide, namespace: "/printing-ws", rooms: []string{"branch:b2"}, matches: in("c1", "/printing-ws", "branch:b2"),
			page: &page{transport: sioclient.Polling, trailing: true},
		},
		{
			token: branch, namespace: "/orders", matches: in("c1", "/orders", "company:c1", "branch:b1", "branch:b3"),
			page: &page{transport: sioclient.WebSocket, anew: true}, away: 500 * time.Millisecond,
		},
	} {
		f.random, f.cursor, f.away, f.page.places = s.random(), "1-0", max(f.away, 100*time.Millisecond), map[string]int{}
		f.name = fmt.Sprintf("page of %s, by %s", f.namespace, f.page.transport)
		list = append(list, f)
	}
	return list
}

// goesOn is an error unless everybody gets on, a step or two each, and every follower
// comes to where the log is now.
func (tr *traffic) goesOn(ctx context.Context) error {
	steps := map[string]*atomic.Int64{"the application": &tr.application.steps}
	for _, p := range tr.publishers {
		steps[p.name] = &p.steps
	}
	wanted := map[string]int64{}
	for name := range steps {
		wanted[name] = steps[name].Load() + 2
	}
	for name, want := range wanted {
		err := eventually(ctx, name+" gets on", func(context.Context) error {
			if made := steps[name].Load(); made < want {
				return fmt.Errorf("he made %d steps, and should have made %d", made, want)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	tip, err := query[int64](ctx, tr.cluster, "SELECT last_value FROM tailroom.positions")
	if err != nil {
		return err
	}
	for _, f := range tr.followers {
		if err := eventually(ctx, f.name+" has read on", func(context.Context) error { return f.has(tip) }); err != nil {
			return err
		}
	}
	defer func() { tr.tip = tip }()
	return eventually(ctx, "the desktop app has acknowledged", tr.acknowledged)
}

// acknowledged is an error unless the log has kept that the desktop app has got what there
// was when everybody got on the last time.
func (tr *traffic) acknowledged(ctx context.Context) error {
	kept, err := query[int64](ctx, tr.cluster, "SELECT position FROM tailroom.consumers WHERE tenant = 'c1' AND name = 'test-desktop_app:/orders'")
	if err == nil && kept < tr.tip {
		err = fmt.Errorf("it is kept at %d, not at %d", kept, tr.tip)
	}
	return err
}

// evidence is what everybody knows now.
func (tr *traffic) evidence() *evidence {
	e := &evidence{accepted: map[string][]apptest.Receipt{}}
	for _, f := range tr.followers {
		e.readings = append(e.readings, f.reading())
	}
	for _, p := range slices.Concat(tr.publishers, tr.markers, []*publisher{tr.leaver}) {
		e.ofPublisher(p)
	}
	e.ofApplication(tr.application)
	return e
}

// compare holds the log against what everybody knows, and returns how many events
// there are.
func (tr *traffic) compare(ctx context.Context, complete bool) (events int, err error) {
	until := time.Now().Add(-decided)
	e := tr.evidence()
	log, err := check.ReadLog(ctx, tr.cluster.dsn)
	if err != nil {
		return 0, err
	}
	tr.looks++
	return len(log), e.compare(log, until, complete)
}

// lookAhead looks, while something is broken, for what was answered by a failure
// and left at that. What is not there by now must never come.
func (tr *traffic) lookAhead(ctx context.Context) error {
	until := time.Now().Add(-decided)
	log, err := check.ReadLog(ctx, tr.cluster.dsn)
	if err != nil {
		return err
	}
	index, err := check.NewIndex(log)
	for _, p := range append(slices.Clone(tr.publishers), tr.leaver) {
		if err == nil {
			err = p.look(index, until, true)
		}
	}
	return err
}

// finish ends the traffic: whatever was begun is answered, whatever was published
// is read.
func (tr *traffic) finish(ctx context.Context) error {
	defer time.AfterFunc(2*patience, func() { tr.fail(errors.New("not everybody came to an end")) }).Stop()
	tr.stopped.Store(true)
	if err := tr.writing.Wait(); err != nil {
		return err
	}
	err := eventually(ctx, "the outbox is empty", func(ctx context.Context) error {
		left, err := query[string](ctx, tr.cluster, `SELECT (SELECT count(*) FROM tailroom.outbox) || ' wait, ' ||
			(SELECT count(*) FROM tailroom.outbox_rejected) || ' rejected'`)
		if err == nil && left != "0 wait, 0 rejected" {
			err = errors.New(left)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, p := range tr.markers {
		last := func(namespace, kind string) map[string]any {
			e := p.event()
			e["namespace"], e["type"] = namespace, kind
			e["rooms"] = []string{"company:" + p.company, "branch:b1", "branch:b2", "branch:b3"}
			e["data"] = map[string]any{"orderId": "the-last", "printerId": "p1"}
			return e
		}
		g := groupOf(last("/orders", "newOrder"), last("/printing-ws", "printer:test"))
		if err := p.publish(ctx, tr.cluster.instances, []*group{g}); err != nil {
			return err
		}
	}
	return tr.reading.Wait()
}

// String is what there was.
func (tr *traffic) String() string {
	e := tr.evidence()
	unavailable, unanswered, sent, published := 0, 0, 0, 0
	for _, p := range e.publishers {
		answered, rest := p.missing()
		unavailable, unanswered = unavailable+len(answered), unanswered+len(rest)
	}
	for _, r := range e.readings {
		sent += len(r.sent)
	}
	for _, tx := range e.transactions {
		published += len(tx.IDs)
	}
	return fmt.Sprintf("%d events accepted and %d refused; of groups that were left, and are not in the log, %d were unavailable and %d not answered; %d events published in %d transactions, %d deliveries, %d looks",
		len(e.accepted), len(e.refused), unavailable, unanswered, published, len(e.transactions), sent, tr.looks)
}
