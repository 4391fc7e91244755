package check_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/check"
	"github.com/tailroom/tailroom/internal/event"
)

func TestReader(t *testing.T) {
	t.Parallel()
	var log []*event.Entry
	for _, p := range []int64{1, 2, 4, 5, 9} {
		log = append(log, event.NewEntry(event.Event{Cursor: event.Cursor{Epoch: 1, Position: p}, Data: []byte("{}")}))
	}
	odd := func(e *event.Entry) bool { return e.Cursor.Position%2 == 1 }
	type record struct {
		from, to   int64
		deliveries []check.Delivery
	}
	said := func(from, to int64, positions ...int64) *record {
		r := &record{from: from, to: to}
		for _, p := range positions {
			r.deliveries = append(r.deliveries, check.Delivery{Position: p})
		}
		return r
	}
	judge := func(r *record) error { return check.Reader(log, odd, r.from, r.to, r.deliveries) }
	for _, r := range []*record{said(0, 9, 1, 5, 9), said(1, 9, 5, 9), said(1, 12, 5, 9), said(8, 9, 9), said(9, 9), said(20, 20)} {
		require.NoError(t, judge(r))
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
		require.ErrorContains(t, judge(r), want)
	}
	good, bad := said(0, 9, 1, 5, 9), said(0, 9, 1, 5, 9)
	good.deliveries[1].JSON = log[3].JSON()
	require.NoError(t, judge(good))
	bad.deliveries[1].JSON = bytes.Replace(log[3].JSON(), []byte("null"), []byte("0"), 1)
	require.ErrorContains(t, judge(bad), "5 was delivered as")
}

func entry(position, version int64) *event.Entry {
	e := event.Event{Cursor: event.Cursor{Epoch: 1, Position: position}, ID: uuid.New(), Data: []byte("{}")}
	if version > 0 {
		e.Stream, e.Version = "order:1", version
	}
	return event.NewEntry(e)
}

func index(t *testing.T, log ...*event.Entry) check.Index {
	t.Helper()
	x, err := check.NewIndex(log)
	require.NoError(t, err)
	return x
}

func TestNewIndex(t *testing.T) {
	t.Parallel()
	log := []*event.Entry{entry(3, 1), entry(4, 2), entry(6, 0)}
	require.Len(t, index(t, log...), 3)
	for want, log := range map[string][]*event.Entry{
		"has version 2 at 4, after 0":   log[1:],
		"is in the log at 3 and at 3":   append(log, log[0]),
		"has version 4 at 7, after 2":   append(log, entry(7, 4)),
		"has version 2 at 7, after 2":   append(log, entry(7, 2)),
		"is in the log at 6 and at 6":   append(log, log[2]),
		"has version 100 at 3, after 0": {entry(3, 100)},
	} {
		_, err := check.NewIndex(log)
		require.ErrorContains(t, err, want)
	}
}

func TestIndex_Accepted(t *testing.T) {
	t.Parallel()
	log := []*event.Entry{entry(3, 1), entry(4, 2)}
	id, version := log[0].ID.String(), int64(1)
	told := func(list ...apptest.Receipt) map[string][]apptest.Receipt {
		return map[string][]apptest.Receipt{id: list}
	}
	right, wrong := apptest.Receipt{Position: 3, Version: &version}, apptest.Receipt{Position: 4, Version: &version}
	two := int64(2)
	require.NoError(t, index(t, log...).Accepted(told(right, right)))
	require.ErrorContains(t, index(t, log...).Accepted(told(right, wrong)), "was acknowledged at 4, and is at 3")
	require.ErrorContains(t, index(t, log...).Accepted(told(apptest.Receipt{Position: 3, Version: &two})), "was acknowledged at 3")
	require.ErrorContains(t, index(t).Accepted(told(right)), "is not in the log")
	require.ErrorContains(t, index(t, log...).Absent([]string{uuid.NewString(), id}, "refused"), "was refused, and is in the log at 3")
	require.NoError(t, index(t, log...).Absent([]string{uuid.NewString()}, "refused"))
}

// Who was told nothing may find his events or not, but all of a group or none,
// and not at first none and later some.
func TestUnsettled(t *testing.T) {
	t.Parallel()
	began := time.Now()
	a, b, c := entry(1, 0), entry(2, 0), entry(5, 0)
	ids := func(entries ...*event.Entry) (list []string) {
		for _, e := range entries {
			list = append(list, e.ID.String())
		}
		return list
	}
	look := func(looks ...check.Index) error {
		var u check.Unsettled
		u.Add(ids(a, b), began)
		u.Add(ids(c), began.Add(time.Second))
		for _, x := range looks {
			if err := u.Look(x, began.Add(time.Minute)); err != nil {
				return err
			}
		}
		return nil
	}
	moved := event.NewEntry(event.Event{ID: c.ID, Cursor: event.Cursor{Position: 9}})
	require.NoError(t, look(index(t), index(t), index(t)))
	require.NoError(t, look(index(t, a, b), index(t, a, b, entry(3, 0))))
	require.ErrorContains(t, look(index(t, a, b), index(t, a, b, c)), "it came late")
	require.ErrorContains(t, look(index(t), index(t, a, b)), "it came late")
	require.ErrorContains(t, look(index(t, a)), "are not both in the log")
	require.ErrorContains(t, look(index(t, b)), "are not both in the log")
	require.ErrorContains(t, look(index(t), index(t, b)), "are not both in the log")
	require.ErrorContains(t, look(index(t, c), index(t, moved)), "was at 5, and is at 9")
	require.ErrorContains(t, look(index(t, c), index(t)), "was at 5, and is at 0")

	// What began a moment ago may still be on its way.
	var u check.Unsettled
	u.Add(ids(a, b), began)
	u.Add(ids(c), began.Add(time.Second))
	require.NoError(t, u.Look(index(t), began))
	require.Equal(t, ids(a), u.Missing())
	require.NoError(t, u.Look(index(t, c), began.Add(time.Second)))
	require.Equal(t, ids(a), u.Missing())
	require.ErrorContains(t, u.Look(index(t, a, b, c), began.Add(time.Minute)), "it came late")
}

func TestIndex_Transactions(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	log := []*event.Entry{entry(1, 0), entry(2, 0), entry(3, 0), entry(4, 0)}
	id := func(places ...int) (ids []string) {
		for _, p := range places {
			ids = append(ids, log[p-1].ID.String())
		}
		return ids
	}
	tx := func(began, ended int, ids ...string) check.Transaction {
		return check.Transaction{Began: at(began), Ended: at(ended), IDs: ids}
	}
	judge := func(list ...check.Transaction) error { return index(t, log...).Transactions(list) }
	require.NoError(t, judge())
	require.NoError(t, judge(tx(1, 4, id(1, 3)...), tx(2, 3, id(2)...), tx(5, 6, id(4)...), tx(7, 8)))
	require.NoError(t, judge(tx(5, 6, id(4)...), tx(1, 4, id(1, 3)...), tx(3, 4, id(2)...)), "those that overlap, in any order")
	require.NoError(t, judge(check.Transaction{Lost: []string{uuid.NewString()}}))
	require.ErrorContains(t, judge(check.Transaction{Lost: id(2)}), "was rolled back, and is in the log at 2")
	require.ErrorContains(t, judge(tx(1, 2, uuid.NewString())), "was committed, and is not in the log")
	require.ErrorContains(t, judge(tx(1, 2, id(2, 1)...)), "behind what its transaction published later")
	require.ErrorContains(t, judge(tx(1, 2, id(2)...), tx(3, 4, id(1)...)), "though its transaction began when the one was over")
	require.ErrorContains(t, judge(tx(3, 4, id(2)...), tx(1, 2, id(1, 3)...), tx(3, 9, id(4)...)), "that published what is at 3")
}
