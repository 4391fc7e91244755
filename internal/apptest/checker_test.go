package apptest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// The invariants that every reader and every publisher may rely on, as
// functions of what they saw and of what is in the log in the end. The same
// functions must fail a broken log and a broken reader: see control_test.go.

// delivery is one event as a reader got it.
type delivery struct {
	position int64
	json     []byte // nil where bytes are not compared
}

// record is what a reader says: that he was sent everything that matches
// after the position from, up to the position to.
type record struct {
	from, to   int64
	deliveries []delivery
}

// check compares the record with the log, filtered: no skip, no repeat, in
// order, byte for byte, and nothing left to come.
func (r *record) check(log []*event.Entry, matches func(*event.Entry) bool) error {
	next, last := 0, r.from
	for _, e := range log {
		p := e.Cursor.Position
		if p <= r.from || !matches(e) {
			continue
		}
		if p > r.to {
			return fmt.Errorf("the reader came to rest at %d, the log goes on to %d", r.to, p)
		}
		if next == len(r.deliveries) {
			return fmt.Errorf("skipped %d: the last delivered was %d", p, last)
		}
		d := r.deliveries[next]
		switch {
		case d.position <= last:
			return fmt.Errorf("%d came after %d", d.position, last)
		case d.position > p:
			return fmt.Errorf("skipped %d: %d came after %d", p, d.position, last)
		case d.position < p:
			return fmt.Errorf("%d was delivered, which does not match or is not in the log", d.position)
		case d.json != nil && !bytes.Equal(d.json, e.JSON()):
			return fmt.Errorf("%d was delivered as %s, and is in the log as %s", p, d.json, e.JSON())
		}
		next, last = next+1, p
	}
	if next < len(r.deliveries) {
		return fmt.Errorf("%d came after %d, which was the last", r.deliveries[next].position, last)
	}
	return nil
}

// promises are what publishers were told.
type promises struct {
	accepted map[string][]apptest.Receipt // by id: each answer that took the event
	refused  []string                     // ids of events that were not taken
}

// check compares the promises with the log: what was acknowledged is there,
// exactly once, where every answer said; what was refused is not; and every
// version is one more than the one before.
func (p *promises) check(log []*event.Entry) error {
	type stream struct{ tenant, namespace, name string }
	found, versions := map[string]*event.Entry{}, map[stream]int64{}
	for _, e := range log {
		id := e.ID.String()
		if found[id] != nil {
			return fmt.Errorf("%s is in the log at %d and at %d", id, found[id].Cursor.Position, e.Cursor.Position)
		}
		found[id] = e
		if e.Stream == "" {
			continue
		}
		s := stream{e.Tenant, e.Namespace, e.Stream}
		if versions[s]++; versions[s] != e.Version {
			return fmt.Errorf("%v has version %d at %d, after %d", s, e.Version, e.Cursor.Position, versions[s]-1)
		}
	}
	for id, receipts := range p.accepted {
		e := found[id]
		if e == nil {
			return fmt.Errorf("%s was acknowledged at %d, and is not in the log", id, receipts[0].Position)
		}
		for _, r := range receipts {
			if r.Position != e.Cursor.Position || r.Version != nil && *r.Version != e.Version {
				return fmt.Errorf("%s was acknowledged at %d, and is at %d", id, r.Position, e.Cursor.Position)
			}
		}
	}
	for _, id := range p.refused {
		if e := found[id]; e != nil {
			return fmt.Errorf("%s was refused, and is in the log at %d", id, e.Cursor.Position)
		}
	}
	return nil
}

// readLog reads the whole log, by its primary key.
func readLog(t *testing.T, dsn string) []*event.Entry {
	t.Helper()
	log := eventlog.New(pgtest.Pool(t, dsn))
	var all []*event.Entry
	for after := int64(0); ; after = all[len(all)-1].Cursor.Position {
		page, err := log.Tail(t.Context(), after, 10_000)
		require.NoError(t, err)
		if all = append(all, page...); len(page) == 0 {
			return all
		}
	}
}

// The checkers tell every kind of lie.
func TestRecord_Check(t *testing.T) {
	t.Parallel()
	var log []*event.Entry
	for _, p := range []int64{1, 2, 4, 5, 9} {
		log = append(log, event.NewEntry(event.Event{Cursor: event.Cursor{Epoch: 1, Position: p}, Data: []byte("{}")}))
	}
	odd := func(e *event.Entry) bool { return e.Cursor.Position%2 == 1 }
	said := func(from, to int64, positions ...int64) *record {
		r := &record{from: from, to: to}
		for _, p := range positions {
			r.deliveries = append(r.deliveries, delivery{position: p})
		}
		return r
	}
	for _, r := range []*record{said(0, 9, 1, 5, 9), said(1, 9, 5, 9), said(1, 12, 5, 9), said(8, 9, 9), said(9, 9), said(20, 20)} {
		require.NoError(t, r.check(log, odd))
	}
	for want, r := range map[string]*record{
		"skipped 1: 5 came after 0":               said(0, 9, 5, 9),
		"skipped 5: 9 came after 1":               said(0, 9, 1, 9),
		"skipped 9: the last delivered was 5":     said(0, 9, 1, 5),
		"came to rest at 5, the log goes on to 9": said(0, 5, 1, 5),
		"1 came after 1":                          said(0, 9, 1, 1, 5, 9),
		"1 came after 5":                          said(0, 9, 1, 5, 1, 9),
		"9 came after 9, which was the last":      said(0, 9, 1, 5, 9, 9),
		"4 was delivered, which does not match":   said(0, 9, 1, 4, 5, 9),
		"7 was delivered, which does not match":   said(0, 9, 1, 5, 7, 9),
		"11 came after 9, which was the last":     said(0, 12, 1, 5, 9, 11),
		"5 came after 8":                          said(8, 9, 5, 9),
	} {
		require.ErrorContains(t, r.check(log, odd), want)
	}
	good, bad := said(0, 9, 1, 5, 9), said(0, 9, 1, 5, 9)
	good.deliveries[1].json = log[3].JSON()
	require.NoError(t, good.check(log, odd))
	bad.deliveries[1].json = bytes.Replace(log[3].JSON(), []byte("null"), []byte("0"), 1)
	require.ErrorContains(t, bad.check(log, odd), "5 was delivered as")
}

func TestPromises_Check(t *testing.T) {
	t.Parallel()
	var log []*event.Entry
	entry := func(position, version int64) *event.Entry {
		return event.NewEntry(event.Event{
			Cursor: event.Cursor{Epoch: 1, Position: position}, ID: uuid.New(), Stream: "order:1", Version: version, Data: []byte("{}"),
		})
	}
	log = append(log, entry(3, 1), entry(4, 2))
	id, version := log[0].ID.String(), int64(1)
	told := func(list ...apptest.Receipt) *promises {
		return &promises{accepted: map[string][]apptest.Receipt{id: list}, refused: []string{uuid.NewString()}}
	}
	right, wrong := apptest.Receipt{Position: 3, Version: &version}, apptest.Receipt{Position: 4, Version: &version}
	require.NoError(t, told(right, right).check(log))
	require.ErrorContains(t, told(right, wrong).check(log), "was acknowledged at 4, and is at 3")
	require.ErrorContains(t, told(right).check(log[1:]), "after 0")
	require.ErrorContains(t, told(right).check(nil), "is not in the log")
	require.ErrorContains(t, told(right).check(append(log, log[0])), "is in the log at 3 and at 3")
	require.ErrorContains(t, told(right).check(append(log, entry(6, 4))), "has version 4 at 6, after 2")
	require.ErrorContains(t, (&promises{refused: []string{id}}).check(log), "was refused, and is in the log at 3")
}

// position is the position that an event's JSON speaks of.
func position(raw json.RawMessage) (int64, error) {
	var e apptest.Event
	err := json.Unmarshal(raw, &e)
	return e.Position, err
}
