package crash_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/check"
	"github.com/tailroom/tailroom/internal/apptest/load"
	"github.com/tailroom/tailroom/internal/event"
)

// A round in which somebody breaks the log must fail.
func TestControl_BrokenLog(t *testing.T) {
	t.Parallel()
	program := load.Build(t, "-race")
	for name, sabotage := range map[string]struct {
		strike func(ctx context.Context, r *round) error
		want   string
	}{
		"an event that was acknowledged goes": {
			func(ctx context.Context, r *round) error {
				return r.cluster.execute(ctx, `BEGIN; SET LOCAL session_replication_role = replica;
					DELETE FROM tailroom.events WHERE position = (SELECT min(position) FROM tailroom.events WHERE stream IS NULL); COMMIT`)
			}, "and is not in the log",
		},
		"an event comes late": {
			func(ctx context.Context, r *round) error {
				late := uuid.NewString()
				p := r.traffic.publishers[0]
				p.mu.Lock()
				p.unavailable.Add([]string{late}, time.Now().Add(-2*decided))
				p.mu.Unlock()
				if _, err := r.traffic.compare(ctx, false); err != nil {
					return err
				}
				return r.cluster.execute(ctx, fmt.Sprintf(
					`SELECT tailroom.append('c1', '/orders', 'newOrder', '{"orderId": "late", "branchId": "b1"}', id => '%s')`, late))
			}, "it came late",
		},
		"an event comes below those that were read": {
			func(ctx context.Context, r *round) error {
				hole, err := query[int64](ctx, r.cluster, "SELECT setval('tailroom.positions', last_value + 1) FROM tailroom.positions, pg_advisory_xact_lock(1952541036, 1)")
				if err != nil {
					return err
				}
				if err := r.traffic.goesOn(ctx); err != nil {
					return err
				}
				return r.cluster.execute(ctx, fmt.Sprintf(`INSERT INTO tailroom.events (position, epoch, id, tenant, namespace, type, schema_version,
						rooms, occurred_at, recorded_at, correlation_id, data)
					SELECT %d, epoch, gen_random_uuid(), tenant, namespace, type, schema_version, '{branch:b1}', occurred_at, recorded_at, 'below', data
					FROM tailroom.events WHERE tenant = 'c1' AND namespace = '/orders' LIMIT 1`, hole))
			}, "skipped",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScript(1)
			s.instances = 1
			s.add(&fault{name: name, strike: func(ctx context.Context, r *round, _ *strike) error { return sabotage.strike(ctx, r) }})
			require.ErrorContains(t, newRound(t, program, s).play(), sabotage.want)
		})
	}
}

// Whatever is wrong with the evidence, the comparison finds it.
func TestControl_BrokenEvidence(t *testing.T) {
	t.Parallel()
	var log []*event.Entry
	for n, company := range []string{"c1", "c2", "c1", "c1", "c1", "c1"} {
		log = append(log, event.NewEntry(event.Event{
			Cursor: event.Cursor{Epoch: 1, Position: int64(n + 1)}, ID: uuid.New(), Tenant: company, Namespace: "/orders", Data: []byte("{}"),
		}))
	}
	id := func(position int) string { return log[position-1].ID.String() }
	at := func(second int64) time.Time { return time.Unix(second, 0) }
	whole := func() *evidence {
		e := &evidence{
			accepted: map[string][]apptest.Receipt{id(1): {{Position: 1}, {Position: 1}}, id(2): {{Position: 2}}},
			refused:  []string{uuid.NewString()},
			transactions: []check.Transaction{
				{Began: at(1), Ended: at(2), IDs: []string{id(3), id(4)}, Lost: []string{uuid.NewString()}},
				{Began: at(3), Ended: at(4), IDs: []string{id(5)}},
			},
			publishers: []*publisher{{name: "he"}},
		}
		e.publishers[0].unavailable.Add([]string{id(6)}, at(1))
		e.publishers[0].unanswered.Add([]string{uuid.NewString()}, at(1))
		r := reading{name: "she", matches: func(e *event.Entry) bool { return e.Tenant == "c1" }, to: 6}
		for _, entry := range log {
			if r.matches(entry) {
				r.sent = append(r.sent, check.Delivery{Position: entry.Cursor.Position, JSON: entry.JSON()})
			}
		}
		e.readings = []reading{r}
		return e
	}
	require.NoError(t, whole().compare(log, at(9), false))
	require.NoError(t, whole().compare(log, at(9), true))
	for want, spoil := range map[string]func(e *evidence){
		"she: skipped 3":      func(e *evidence) { e.readings[0].sent = slices.Delete(e.readings[0].sent, 1, 2) },
		"she: 3 came after 3": func(e *evidence) { e.readings[0].sent = slices.Insert(e.readings[0].sent, 2, e.readings[0].sent[1]) },
		"she: 2 was delivered, which does not": func(e *evidence) {
			e.readings[0].sent = slices.Insert(e.readings[0].sent, 1, check.Delivery{Position: 2})
		},
		"she: 3 was delivered as x":            func(e *evidence) { e.readings[0].sent[1].JSON = []byte("x") },
		"she: 7 came after 6":                  func(e *evidence) { e.readings[0].sent = append(e.readings[0].sent, check.Delivery{Position: 7}) },
		"was acknowledged at 7, and is not":    func(e *evidence) { e.accepted[uuid.NewString()] = []apptest.Receipt{{Position: 7}} },
		"was acknowledged at 3, and is at 2":   func(e *evidence) { e.accepted[id(2)] = []apptest.Receipt{{Position: 2}, {Position: 3}} },
		"was refused, and is in the log at 6":  func(e *evidence) { e.refused = append(e.refused, id(6)) },
		"rolled back, and is in the log at 6":  func(e *evidence) { e.transactions[0].Lost = []string{id(6)} },
		"are not both in the log or both not":  func(e *evidence) { e.publishers[0].unanswered.Add([]string{id(6), uuid.NewString()}, at(1)) },
		"he: " + id(6) + " was not in the log": func(e *evidence) { _ = e.publishers[0].look(check.Index{}, at(9), true) },
	} {
		for _, complete := range []bool{false, true} {
			e := whole()
			spoil(e)
			require.ErrorContains(t, e.compare(log, at(9), complete), want)
		}
	}
	// What can only be told in the end.
	for want, spoil := range map[string]func(e *evidence){
		"came to rest at 5, the log goes on": func(e *evidence) { e.readings[0].to, e.readings[0].sent = 5, e.readings[0].sent[:4] },
		"was committed, and is not":          func(e *evidence) { e.transactions[1].IDs = []string{uuid.NewString()} },
		"behind what its transaction":        func(e *evidence) { slices.Reverse(e.transactions[0].IDs) },
		"though its transaction began":       func(e *evidence) { e.transactions[1].Began, e.transactions[1].Ended = at(-2), at(-1) },
	} {
		e := whole()
		spoil(e)
		require.NoError(t, e.compare(log, at(9), false))
		require.ErrorContains(t, e.compare(log, at(9), true), want)
	}
	require.ErrorContains(t, whole().compare(append(log, log[0]), at(9), false), "is in the log at 1 and at 1")
}
