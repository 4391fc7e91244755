package eventlog

import (
	"cmp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

// A batch holds at most this much, unless a single group is larger.
const (
	maxBatchEvents = 500
	maxBatchBytes  = 1 << 20
)

// roomSeparator joins the rooms of an event, which sqlc cannot pass as an
// array of arrays. Rooms hold no control characters.
const roomSeparator = "\x1f"

// head is a stream as a batch sees it.
type head struct {
	key      streamKey
	count    int64 // events of it in the batch
	last     int32 // number of the last one, from 1
	expected int64 // -1 when no version is
}

type streamKey struct{ tenant, namespace, stream string }

func (k streamKey) compare(o streamKey) int {
	return cmp.Or(cmp.Compare(k.tenant, o.tenant), cmp.Compare(k.namespace, o.namespace), cmp.Compare(k.stream, o.stream))
}

func keyOf(d *event.Draft) streamKey { return streamKey{d.Tenant, d.Namespace, d.Stream} }

// batch is some groups in the order they are appended.
type batch struct {
	groups []*pending
	events int
	bytes  int
}

// weight is what an event takes of a batch and of memory, in bytes, roughly:
// publishers choose how long its texts are and how many rooms it has.
func weight(d *event.Draft) int {
	const rest, header = 200, 16
	bytes := rest + len(d.Data) + len(d.Stream) + len(d.CorrelationID)
	for _, room := range d.Rooms {
		bytes += len(room) + header
	}
	return bytes
}

// fits reports whether g may join.
func (b *batch) fits(g *pending) bool {
	return len(b.groups) == 0 || b.events+len(g.drafts) <= maxBatchEvents && b.bytes+g.bytes <= maxBatchBytes
}

func (b *batch) add(g *pending) {
	b.groups = append(b.groups, g)
	b.events += len(g.drafts)
	b.bytes += g.bytes
}

// apart is b in parts of which none holds two groups of a talk, a request and its
// answer or two answers: what the second is shows when the first is in the log.
func (b *batch) apart() []*batch {
	parts := []*batch{{}}
	talks := map[talkKey]struct{}{}
	for _, g := range b.groups {
		talk, part := talkOf(&g.drafts[0])
		if _, taken := talks[talk]; part && taken {
			parts = append(parts, &batch{})
			clear(talks)
		}
		if part {
			talks[talk] = struct{}{}
		}
		parts[len(parts)-1].add(g)
	}
	return parts
}

// drafts calls fn with every draft and its number from 0.
func (b *batch) drafts(fn func(n int, d *event.Draft)) {
	n := 0
	for _, g := range b.groups {
		for i := range g.drafts {
			fn(n, &g.drafts[i])
			n++
		}
	}
}

// heads returns the streams of the batch, sorted as SQL wants them. A stream's
// expectation is that of its first event in its group.
func (b *batch) heads() ([]head, map[streamKey]int) {
	byKey := map[streamKey]*head{}
	b.drafts(func(n int, d *event.Draft) {
		if d.Stream == "" {
			return
		}
		h := byKey[keyOf(d)]
		if h == nil {
			h = &head{key: keyOf(d), expected: -1}
			if d.ExpectedVersion.Set {
				h.expected = d.ExpectedVersion.Version
			}
			byKey[h.key] = h
		}
		h.count++
		h.last = int32(n + 1)
	})
	heads := make([]head, 0, len(byKey))
	for _, h := range byKey {
		heads = append(heads, *h)
	}
	slices.SortFunc(heads, func(a, b head) int { return a.key.compare(b.key) })
	index := make(map[streamKey]int, len(heads))
	for i, h := range heads {
		index[h.key] = i
	}
	return heads, index
}

// params lays the batch out as the arrays of tailroom.append_batch.
func (b *batch) params() (db.EventAppendBatchParams, []head, map[streamKey]int) {
	heads, index := b.heads()
	p := db.EventAppendBatchParams{}
	for _, h := range heads {
		p.HeadTenants = append(p.HeadTenants, h.key.tenant)
		p.HeadNamespaces = append(p.HeadNamespaces, h.key.namespace)
		p.HeadStreams = append(p.HeadStreams, h.key.stream)
		p.HeadCounts = append(p.HeadCounts, h.count)
		p.HeadLasts = append(p.HeadLasts, h.last)
		p.HeadExpected = append(p.HeadExpected, h.expected)
	}
	ordinals := make([]int64, len(heads))
	b.drafts(func(n int, d *event.Draft) {
		number, ordinal := int32(0), int64(0)
		if d.Stream != "" {
			i := index[keyOf(d)]
			ordinals[i]++
			number, ordinal = int32(i+1), ordinals[i]
		}
		p.Heads = append(p.Heads, number)
		p.Ordinals = append(p.Ordinals, ordinal)
		p.Tenants = append(p.Tenants, d.Tenant)
		p.Namespaces = append(p.Namespaces, d.Namespace)
		p.Types = append(p.Types, d.Type)
		p.SchemaVersions = append(p.SchemaVersions, int32(d.SchemaVersion))
		p.Ids = append(p.Ids, pgtype.UUID{Bytes: d.ID, Valid: true})
		p.Rooms = append(p.Rooms, strings.Join(d.Rooms, roomSeparator))
		p.OccurredAts = append(p.OccurredAts, d.OccurredAt)
		p.Actors = append(p.Actors, d.Actor)
		p.CorrelationIds = append(p.CorrelationIds, d.CorrelationID)
		p.CausationIds = append(p.CausationIds, pgtype.UUID{Bytes: d.CausationID.UUID, Valid: d.CausationID.Valid})
		p.ReplyBys = append(p.ReplyBys, d.ReplyBy)
		p.Datas = append(p.Datas, d.Data)
		if d.Asks() {
			p.Requests = append(p.Requests, int32(n+1))
			p.ReplyTypes = append(p.ReplyTypes, d.Awaits.Type)
			p.ReplyWhens = append(p.ReplyWhens, d.Awaits.When)
		}
		if d.MayAnswer {
			p.MayAnswer = append(p.MayAnswer, int32(n+1))
		}
	})
	return p, heads, index
}
