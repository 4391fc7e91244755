package request

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/publish"
)

// table is a log whose requests are answered when the test says so.
type table struct {
	answers map[int64]eventlog.Place // by the request's position
	events  map[int64]*event.Entry
}

func (l *table) Answers(_ context.Context, requests []eventlog.Place) (map[int64]eventlog.Place, error) {
	found := map[int64]eventlog.Place{}
	for _, r := range requests {
		found[r.Position] = l.answers[r.Position]
	}
	return found, nil
}

func (l *table) Events(_ context.Context, _ string, _ []int64) (map[int64]*event.Entry, error) {
	return l.events, nil
}

// said is an event of a talk.
func said(position int64, talk, data string) *event.Entry {
	return event.NewEntry(event.Event{
		Cursor: event.Cursor{Epoch: 1, Position: position}, ID: uuid.New(), Tenant: "c1", Namespace: "/orders",
		CorrelationID: talk, Data: []byte(data),
	})
}

// waiting is somebody who waits for the answer to a request in the log.
func waiting(t *testing.T, w *Waits, request *event.Entry) *wait {
	t.Helper()
	n, err := w.begin(publish.Question{Tenant: "c1", Namespace: "/orders", CorrelationID: request.CorrelationID, ID: request.ID})
	require.NoError(t, err)
	w.Seen([]*event.Entry{request})
	w.placed(n, event.Receipt{Cursor: request.Cursor, ID: request.ID})
	return n
}

func placesOf(request, answer *event.Entry) map[int64]eventlog.Place {
	return map[int64]eventlog.Place{request.Cursor.Position: placeOf(answer)}
}

// Of an answer that no event tells of, the table tells within a second or so, however
// much else there is to ask it about.
func TestWaits_PolledAmongSignals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		quiet, answer, busy := said(1, "quiet", "{}"), said(2, "quiet", "{}"), said(3, "busy", "{}")
		log := &table{answers: placesOf(quiet, answer), events: map[int64]*event.Entry{1: quiet, 2: answer}}
		w := NewWaits(log, prometheus.NewRegistry())
		n := waiting(t, w, quiet)
		waiting(t, w, busy)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = w.Run(ctx) }()
		for position := int64(4); ; position++ {
			select {
			case o := <-n.result:
				require.Same(t, answer, o.reply)
				return
			case <-time.After(pollPeriod / 4):
				require.Less(t, position, int64(4+2*4), "two seconds have passed")
				w.Seen([]*event.Entry{said(position, "busy", "{}")})
			}
		}
	})
}

// What came by is kept for who waits, as far as there is room for all who wait: the
// rest is read from the log.
func TestWaits_WhatIsKeptIsBounded(t *testing.T) {
	t.Parallel()
	w := NewWaits(&table{}, prometheus.NewRegistry())
	large := `{"text":"` + strings.Repeat("x", 256<<10) + `"}`
	var list []*wait
	for n := range int64(40) {
		talk := uuid.NewString()
		list = append(list, waiting(t, w, said(10*n+1, talk, large)))
		for i := range int64(maxSeen) {
			w.Seen([]*event.Entry{said(10*n+2+i, talk, large)})
		}
	}
	kept := func() (bytes int) {
		for _, n := range list {
			for _, e := range n.seen {
				bytes += e.Size()
			}
		}
		return bytes
	}
	require.LessOrEqual(t, kept(), maxKept)
	require.Greater(t, kept(), maxKept/2)
	w.mu.Lock()
	w.forget(2)
	w.mu.Unlock()
	require.Equal(t, kept(), w.kept)
	for _, n := range list {
		w.end(n)
	}
	require.Zero(t, w.kept)
}

// All who wait for one talk are woken by each of its events: there are not too many.
func TestWaits_OfOneTalkAreBounded(t *testing.T) {
	t.Parallel()
	w := NewWaits(&table{}, prometheus.NewRegistry())
	request := said(1, "hot", "{}")
	for range maxTalkWaits {
		waiting(t, w, request)
	}
	_, err := w.begin(publish.Question{Tenant: "c1", Namespace: "/orders", CorrelationID: "hot"})
	require.Equal(t, problem.Overloaded, problem.From(err).Code)
	_, err = w.begin(publish.Question{Tenant: "c1", Namespace: "/orders", CorrelationID: "another"})
	require.NoError(t, err)
}
