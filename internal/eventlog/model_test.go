package eventlog_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
)

// TestModel runs the log beside a model of it that is a list: whatever is
// published, under whatever conditions, however often it is repeated, and
// wherever a reader resumes, both say the same. The seed of a failure is printed,
// and the shortest way to it; -rapid.checks=n asks for more.
func TestModel(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	a, other := r.running(t), r.running(t)
	var tenants atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{
			T: t, rig: r, instances: []*instance{a, other}, tenant: fmt.Sprintf("c%d", tenants.Add(1)),
			versions: map[string]int64{}, generation: map[uuid.UUID]int{},
		}
		rt.Repeat(map[string]func(*rapid.T){
			"append":      m.append,
			"conditional": m.conditional,
			"retry":       m.retry,
			"partial":     m.partial,
			"reuse":       m.reuse,
			"sql":         m.sql,
			"together":    m.together,
			"rotate":      m.rotate,
			"resume":      m.resume,
			"":            m.check,
		})
	})
}

// model is the log as one tenant knows it.
type model struct {
	*testing.T
	rig       *rig
	instances []*instance
	tenant    string

	groups   [][]entry
	events   []entry // in order of position
	versions map[string]int64
	// now counts the rotations of the id window; an id that came in generation g
	// is known until g+1 is over.
	now        int
	generation map[uuid.UUID]int
	cursor     int64 // where the reader of resume stands
}

// entry is an event and the receipt that its publisher has.
type entry struct {
	draft   event.Draft
	receipt event.Receipt
}

var (
	anyStream = rapid.SampledFrom([]string{"", "order:1", "order:2", "order:3"})
	anyRoom   = rapid.SampledFrom([]string{"branch:b1", "branch:b2", "branch:b3"})
)

// draft is an event of the model's tenant.
func (m *model) draft(rt *rapid.T) event.Draft {
	return with(draft(anyStream.Draw(rt, "stream")), tenant(m.tenant), func(d *event.Draft) {
		d.Rooms = rapid.SliceOfNDistinct(anyRoom, 1, 3, rapid.ID).Draw(rt, "rooms")
	})
}

func (m *model) group(rt *rapid.T) []event.Draft {
	return rapid.SliceOfN(rapid.Custom(m.draft), 1, 5).Draw(rt, "group")
}

// instance is whichever takes the next publish.
func (m *model) instance(rt *rapid.T) *instance {
	return m.instances[rapid.IntRange(0, len(m.instances)-1).Draw(rt, "instance")]
}

// publish gives a group to an instance.
func (m *model) publish(rt *rapid.T, drafts []event.Draft) ([]event.Receipt, error) {
	return m.instance(rt).Append(m.Context(), nil, slices.Clone(drafts))
}

// accept takes a group into the model, whose receipts must be what it expects.
func (m *model) accept(rt *rapid.T, drafts []event.Draft, receipts []event.Receipt) {
	require.Len(rt, receipts, len(drafts))
	last := int64(0)
	if len(m.events) > 0 {
		last = m.events[len(m.events)-1].receipt.Cursor.Position
	}
	group := make([]entry, len(drafts))
	for i, d := range drafts {
		want := event.Receipt{Cursor: receipts[i].Cursor, ID: d.ID, Stream: d.Stream}
		if d.Stream != "" {
			m.versions[d.Stream]++
			want.Version = m.versions[d.Stream]
		}
		require.Equal(rt, want, receipts[i])
		require.Greater(rt, want.Cursor.Position, last)
		last = want.Cursor.Position
		group[i] = entry{d, want}
		m.generation[d.ID] = m.now
	}
	m.groups = append(m.groups, group)
	m.events = append(m.events, group...)
}

func (m *model) append(rt *rapid.T) {
	drafts := m.group(rt)
	receipts, err := m.publish(rt, drafts)
	require.NoError(rt, err)
	m.accept(rt, drafts, receipts)
}

// conditional expects a version that the stream may or may not have.
func (m *model) conditional(rt *rapid.T) {
	drafts := m.group(rt)
	first := slices.IndexFunc(drafts, func(d event.Draft) bool { return d.Stream != "" })
	if first < 0 {
		rt.Skip("the group has no stream")
	}
	expected := rapid.Int64Range(0, m.versions[drafts[first].Stream]+1).Draw(rt, "expected")
	drafts[first] = with(drafts[first], expecting(expected))
	receipts, err := m.publish(rt, drafts)
	if current := m.versions[drafts[first].Stream]; expected != current {
		var conflict *eventlog.VersionConflictError
		require.ErrorAs(rt, err, &conflict)
		require.Equal(rt, []eventlog.Conflict{{
			Index: first, Namespace: "/orders", Stream: drafts[first].Stream, Expected: expected, Current: current,
		}}, conflict.Conflicts)
		return
	}
	require.NoError(rt, err)
	m.accept(rt, drafts, receipts)
}

// known draws a group all of whose ids are still known.
func (m *model) known(rt *rapid.T) []entry {
	known := slices.DeleteFunc(slices.Clone(m.groups), func(g []entry) bool { return m.generation[g[0].draft.ID] < m.now-1 })
	if len(known) == 0 {
		rt.Skip("no group is known")
	}
	return rapid.SampledFrom(known).Draw(rt, "group")
}

func (m *model) retry(rt *rapid.T) {
	group := m.known(rt)
	var drafts []event.Draft
	var want []event.Receipt
	for _, e := range group {
		drafts, want = append(drafts, e.draft), append(want, e.receipt)
	}
	receipts, err := m.publish(rt, drafts)
	require.NoError(rt, err)
	require.Equal(rt, duplicate(want), receipts)
}

func (m *model) partial(rt *rapid.T) {
	_, err := m.publish(rt, []event.Draft{m.draft(rt), m.known(rt)[0].draft})
	require.ErrorIs(rt, err, eventlog.ErrPartialDuplicate)
}

func (m *model) reuse(rt *rapid.T) {
	_, err := m.publish(rt, []event.Draft{with(m.known(rt)[0].draft, data(`{"other":true}`))})
	require.ErrorIs(rt, err, eventlog.ErrIDReused)
}

// sql appends with tailroom.append, as an application does.
func (m *model) sql(rt *rapid.T) {
	d := m.draft(rt)
	if d.Stream == "" {
		rt.Skip("the type has a stream by default")
	}
	expected := rapid.Int64Range(0, m.versions[d.Stream]+1).Draw(rt, "expected")
	var position, version int64
	err := m.rig.pool.QueryRow(m.Context(), `
		SELECT "position", version FROM tailroom.append($1, $2, $3, $4, rooms => $5, stream => $6, id => $7, correlation_id => $8, expected_version => $9)`,
		d.Tenant, d.Namespace, d.Type, d.Data, d.Rooms, d.Stream, d.ID, d.CorrelationID, expected).Scan(&position, &version)
	if expected != m.versions[d.Stream] {
		require.ErrorContains(rt, err, "version_conflict")
		return
	}
	require.NoError(rt, err)
	m.accept(rt, []event.Draft{d}, []event.Receipt{{
		Cursor: event.Cursor{Epoch: 1, Position: position}, ID: d.ID, Stream: d.Stream, Version: version,
	}})
}

// together puts several groups into one queue, and so perhaps into one batch.
func (m *model) together(rt *rapid.T) {
	i := m.instance(rt)
	groups := rapid.SliceOfN(rapid.Custom(m.group), 2, 4).Draw(rt, "groups")
	tickets := make([]*eventlog.Ticket, len(groups))
	for n, g := range groups {
		ticket, err := i.Submit("one source", slices.Clone(g))
		require.NoError(rt, err)
		tickets[n] = ticket
	}
	for n, ticket := range tickets {
		receipts, err := ticket.Wait(m.Context())
		require.NoError(rt, err)
		m.accept(rt, groups[n], receipts)
	}
}

func (m *model) rotate(rt *rapid.T) {
	for since := time.Now(); !m.rig.rotate(m.T); { // autovacuum may be at the older table
		require.Less(rt, time.Since(since), patience)
	}
	m.now++
}

// resume reads on from the reader's cursor to the end, in pages of any size, as
// somebody in some rooms.
func (m *model) resume(rt *rapid.T) {
	rooms := rapid.SliceOfNDistinct(anyRoom, 1, 3, rapid.ID).Draw(rt, "rooms")
	m.cursor = rapid.SampledFrom([]int64{0, m.cursor}).Draw(rt, "cursor")
	limit := rapid.IntRange(1, 10).Draw(rt, "limit")
	var topics []event.Topic
	for _, room := range rooms {
		topics = append(topics, event.Topic{Tenant: m.tenant, Namespace: "/orders", Room: room})
	}
	var want, got []event.Receipt
	for _, e := range m.events {
		heard := slices.ContainsFunc(e.draft.Rooms, func(room string) bool { return slices.Contains(rooms, room) })
		if heard && e.receipt.Cursor.Position > m.cursor {
			want = append(want, e.receipt)
		}
	}
	for done := false; !done; {
		page, err := m.rig.log.Page(m.Context(), topics, m.cursor, limit)
		require.NoError(rt, err)
		for _, e := range page.Entries {
			got = append(got, event.Receipt{Cursor: e.Cursor, ID: e.ID, Stream: e.Stream, Version: e.Version})
		}
		done = page.Next.Position == m.cursor || page.Next == page.Bounds.Tip
		m.cursor = page.Next.Position
	}
	require.Equal(rt, want, got)
}

// check holds after every step: each stream has the version the model has.
func (m *model) check(rt *rapid.T) {
	for stream, version := range m.versions {
		head := value[int64](m.T, m.rig, `SELECT coalesce(max(version), 0) FROM tailroom.streams WHERE tenant = $1 AND stream = $2`,
			m.tenant, stream)
		require.Equal(rt, version, head)
	}
}
