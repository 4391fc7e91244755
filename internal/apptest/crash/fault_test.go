package crash_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
)

// allFaults are what can happen. The machine's only happen on Linux.
var allFaults = slices.Concat(instanceFaults, postgresFaults, appendFaults, listenFaults, machineFaults())

// longest is longer than every timeout there is: ours are set to a second or two,
// and of those that are fixed, ten seconds of a leader's silence are the most that
// PostgreSQL puts up with.
const longest, stillLonger = 11 * time.Second, 13 * time.Second

var instanceFaults = []*fault{
	{name: "an instance is killed", on: instances, strike: func(ctx context.Context, r *round, s *strike) error {
		return r.cluster.instances[s.instance].signal(ctx, syscall.SIGKILL)
	}},
	{name: "all instances are killed", on: instances, strike: func(ctx context.Context, r *round, _ *strike) error {
		var errs []error
		for _, i := range r.cluster.instances {
			errs = append(errs, i.signal(ctx, syscall.SIGKILL))
		}
		return errors.Join(errs...)
	}},
	{name: "an instance is restarted in order", on: instances, strike: func(ctx context.Context, r *round, s *strike) error {
		return r.cluster.instances[s.instance].signal(ctx, syscall.SIGTERM)
	}},
	{name: "an instance is stopped", on: instances, from: longest, to: stillLonger, strike: func(ctx context.Context, r *round, s *strike) error {
		return freeze(ctx, r.cluster.instances[s.instance], s)
	}},
	{name: "the instance that relays is stopped", on: instances, from: longest, to: stillLonger, strike: func(ctx context.Context, r *round, s *strike) error {
		return eventually(ctx, "somebody relays", func(ctx context.Context) error {
			for _, i := range r.cluster.instances {
				leads, err := i.metric(ctx, "tailroom_outbox_leader")
				if err == nil && leads == 1 {
					return freeze(ctx, i, s)
				}
			}
			return errors.New("nobody does")
		})
	}},
}

// freeze stops an instance where it stands, and lets it go on.
func freeze(ctx context.Context, i *instance, s *strike) error {
	if err := i.signal(ctx, syscall.SIGSTOP); err != nil {
		return err
	}
	s.last(ctx)
	return i.signal(ctx, syscall.SIGCONT)
}

var appendFaults = append(
	faultsOf("append", appendLinks, func(i *instance) *pgproxy.Proxy { return i.appends }),
	// For longer than an append is waited for.
	&fault{name: "the append link is a black hole", on: appendLinks, from: 8 * time.Second, to: longest, strike: func(ctx context.Context, r *round, s *strike) error {
		return r.isolate(ctx, s, r.cluster.instances[s.instance].appends)
	}},
	&fault{name: "an instance is cut off", on: appendLinks, from: 8 * time.Second, to: longest, strike: func(ctx context.Context, r *round, s *strike) error {
		return r.isolate(ctx, s, r.cluster.instances[s.instance].appends, r.cluster.instances[s.instance].listen)
	}},
)

var listenFaults = append(
	faultsOf("listen", listenLinks, func(i *instance) *pgproxy.Proxy { return i.listen }),
	&fault{name: "the listen link is a black hole", on: listenLinks, from: 5 * time.Second, to: 9 * time.Second, strike: func(ctx context.Context, r *round, s *strike) error {
		p := r.cluster.instances[s.instance].listen
		p.Blackhole(true)
		defer p.Blackhole(false)
		s.last(ctx)
		return nil
	}},
	&fault{name: "notifications are swallowed", on: listenLinks, from: 5 * time.Second, to: 9 * time.Second, strike: func(ctx context.Context, r *round, s *strike) error {
		p := r.cluster.instances[s.instance].listen
		p.SwallowNotifications(true)
		defer p.SwallowNotifications(false)
		s.last(ctx)
		return nil
	}},
)

// faultsOf are those of one of the two ways from an instance to its database.
func faultsOf(name string, on place, of func(*instance) *pgproxy.Proxy) []*fault {
	link := func(what string, from, to time.Duration, do func(ctx context.Context, r *round, p *pgproxy.Proxy, s *strike) error) *fault {
		return &fault{
			name: fmt.Sprintf("the %s link %s", name, what), on: on, from: from, to: to,
			strike: func(ctx context.Context, r *round, s *strike) error {
				return do(ctx, r, of(r.cluster.instances[s.instance]), s)
			},
		}
	}
	return []*fault{
		link("is slow", 2*time.Second, 4*time.Second, func(ctx context.Context, _ *round, p *pgproxy.Proxy, s *strike) error {
			p.Delay(between(s.random, 20*time.Millisecond, 300*time.Millisecond))
			defer p.Delay(0)
			s.last(ctx)
			return nil
		}),
		link("is reset", time.Second, 3*time.Second, func(ctx context.Context, _ *round, p *pgproxy.Proxy, s *strike) error {
			p.Delay(time.Millisecond) // there is always something under way
			defer p.Delay(0)
			for end := time.Now().Add(s.hold); time.Now().Before(end); wait(ctx, between(s.random, 0, 300*time.Millisecond)) {
				pick(s.random, []func(){p.Reset, p.Cut})()
			}
			return nil
		}),
		link("is a black hole for a moment", 200*time.Millisecond, 2*time.Second, func(ctx context.Context, _ *round, p *pgproxy.Proxy, s *strike) error {
			p.Blackhole(true)
			defer p.Blackhole(false)
			s.last(ctx)
			return nil
		}),
		link("is refused", time.Second, 4*time.Second, func(ctx context.Context, _ *round, p *pgproxy.Proxy, s *strike) error {
			p.Refuse(true)
			defer p.Refuse(false)
			s.last(ctx)
			return nil
		}),
	}
}

// isolate makes black holes of an instance's links. What is published first is held
// up in them, and its publisher told that the log is unavailable. If it is not in
// the log then, it must not be later, when the holes give up what they hold.
func (r *round) isolate(ctx context.Context, s *strike, links ...*pgproxy.Proxy) error {
	for _, p := range links {
		p.Blackhole(true)
	}
	defer func() {
		for _, p := range links {
			p.Blackhole(false)
		}
	}()
	p := r.traffic.leaver
	i := r.cluster.instances[s.instance]
	var leaving errgroup.Group
	leaving.Go(func() error { return p.publish(ctx, []*instance{i}, []*group{groupOf(p.event()), groupOf(p.event())}) })
	s.last(ctx)
	if err := leaving.Wait(); err != nil || !s.only { // another fault might keep a commit from being decided
		return err
	}
	return r.traffic.lookAhead(ctx)
}
