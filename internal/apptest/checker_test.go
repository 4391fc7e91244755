package apptest_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/check"
	"github.com/tailroom/tailroom/internal/event"
)

// record is what a reader says: that he was sent everything that matches
// after the position from, up to the position to.
type record struct {
	from, to   int64
	deliveries []check.Delivery
}

func (r *record) check(log []*event.Entry, matches func(*event.Entry) bool) error {
	return check.Reader(log, matches, r.from, r.to, r.deliveries)
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
	index, err := check.NewIndex(log)
	if err != nil {
		return err
	}
	if err := index.Accepted(p.accepted); err != nil {
		return err
	}
	return index.Absent(p.refused, "refused")
}

// readLog reads the whole log, by its primary key.
func readLog(t *testing.T, dsn string) []*event.Entry {
	t.Helper()
	log, err := check.ReadLog(t.Context(), dsn)
	require.NoError(t, err)
	return log
}

// position is the position that an event's JSON speaks of.
func position(raw json.RawMessage) (int64, error) {
	var e apptest.Event
	err := json.Unmarshal(raw, &e)
	return e.Position, err
}
