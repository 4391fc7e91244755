package verify

import (
	"cmp"
	"context"
	"fmt"
	"iter"

	"github.com/tailroom/tailroom/db"
)

// stream names a stream.
type stream struct{ tenant, namespace, name string }

func (s stream) compare(o stream) int {
	return cmp.Or(cmp.Compare(s.tenant, o.tenant), cmp.Compare(s.namespace, o.namespace), cmp.Compare(s.name, o.name))
}

func (s stream) place() Place {
	return Place{CompanyID: s.tenant, Namespace: s.namespace, Stream: s.name}
}

// end is how far a stream goes, by its events or by its head.
type end struct {
	stream
	version int64
	// Of a head alone: whether the stream has others, and whether its event is one
	// that retention has dropped.
	more, dropped bool
}

// checkStreams goes through all events' versions and through the heads, side by
// side in the order of their indexes. What is read of one may be younger than what
// is read of the other, so that a difference is only a suspicion.
func (v *verifier) checkStreams(ctx context.Context) error {
	v.at.Total = v.versions
	next, stop := iter.Pull2(v.heads(ctx))
	defer stop()
	head, err, left := next()
	for events, failed := range v.streams(ctx) {
		if failed != nil {
			return failed
		}
		for ; err == nil && left && head.compare(events.stream) < 0; head, err, left = next() {
			if err := v.suspectLoneHead(ctx, head); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		v.report.Checked.Streams++
		same := left && head.stream == events.stream
		if !same || head.more || head.version != events.version {
			if err := v.suspectHead(ctx, events.stream); err != nil {
				return err
			}
		}
		if same {
			head, err, left = next()
		}
	}
	for ; err == nil && left; head, err, left = next() {
		if err := v.suspectLoneHead(ctx, head); err != nil {
			return err
		}
	}
	return err
}

// streams yields each stream with the last version of its events, and checks on
// the way that none is missing and none is there twice.
func (v *verifier) streams(ctx context.Context) iter.Seq2[end, error] {
	rows := paged(v.pageRows, func(last db.VerifyVersionPageRow, alike int) ([]db.VerifyVersionPageRow, error) {
		page, err := v.sql.VerifyVersionPage(ctx, v.conn, db.VerifyVersionPageParams{
			Tenant: last.Tenant, Namespace: last.Namespace, Stream: last.Stream, Version: last.Version,
			Skip: int32(alike), MaxRows: int32(v.pageRows),
		})
		v.advance(len(page))
		return page, err
	})
	return func(yield func(end, error) bool) {
		var last end          // of no stream at first
		suspected := int64(0) // the version that was last looked up
		for r, err := range rows {
			s := stream{r.Tenant, r.Namespace, r.Stream}
			if err == nil && s != last.stream {
				if last.name != "" && !yield(last, nil) {
					return
				}
				last, suspected = end{stream: s}, 0
				if v.state.Floor > 0 {
					last.version = r.Version - 1 // what is missing may have been dropped
				}
			}
			if err == nil && r.Version != last.version+1 && r.Version != suspected {
				suspected = r.Version
				err = v.suspectVersion(ctx, s, r.Version)
			}
			if err != nil {
				yield(last, err)
				return
			}
			last.version = r.Version
		}
		if last.name != "" {
			yield(last, nil)
		}
	}
}

// heads yields each stream that has a head.
func (v *verifier) heads(ctx context.Context) iter.Seq2[end, error] {
	rows := paged(v.pageRows, func(last db.VerifyHeadPageRow, _ int) ([]db.VerifyHeadPageRow, error) {
		return v.sql.VerifyHeadPage(ctx, v.conn, db.VerifyHeadPageParams{
			Tenant: last.Tenant, Namespace: last.Namespace, Stream: last.Stream, Version: last.Version, MaxRows: int32(v.pageRows),
		})
	})
	return func(yield func(end, error) bool) {
		var last end
		for r, err := range rows {
			if err != nil {
				yield(last, err)
				return
			}
			h := end{
				stream: stream{r.Tenant, r.Namespace, r.Stream}, version: r.Version, dropped: r.LastPosition <= r.Floor,
			}
			if h.stream == last.stream {
				h.more = true
			} else if last.name != "" && !yield(last, nil) {
				return
			}
			last = h
		}
		if last.name != "" {
			yield(last, nil)
		}
	}
}

// suspectVersion looks a version up that did not follow the one before it.
func (v *verifier) suspectVersion(ctx context.Context, s stream, version int64) error {
	found, err := v.sql.VerifyVersionPlaces(ctx, v.conn, db.VerifyVersionPlacesParams{
		Numbers: []int32{0}, Tenants: []string{s.tenant}, Namespaces: []string{s.namespace}, Streams: []string{s.name},
		Versions: []int64{version},
	})
	if err != nil {
		return err
	}
	at, place := found[0], s.place()
	if at.Events > 1 {
		place.Position = at.Highest
		place.Expected, place.Found = fmt.Sprintf("version %d once", version), fmt.Sprintf("also at %d", at.Lowest)
		v.report.fault(VersionRepeated, place)
	}
	if at.Events > 0 && at.BeforeVersion != version-1 && (at.BeforeVersion > 0 || at.Floor == 0) {
		place.Position = at.Lowest
		place.Expected, place.Found = fmt.Sprintf("version %d", at.BeforeVersion+1), fmt.Sprintf("version %d", version)
		v.report.fault(VersionMissing, place)
	}
	return nil
}

// suspectLoneHead takes a head of a stream that seems to have no events.
func (v *verifier) suspectLoneHead(ctx context.Context, head end) error {
	if head.dropped && !head.more {
		return nil
	}
	return v.suspectHead(ctx, head.stream)
}

// suspectHead compares a stream's head with its last event.
func (v *verifier) suspectHead(ctx context.Context, s stream) error {
	h, err := v.sql.VerifyHead(ctx, v.conn, db.VerifyHeadParams{Tenant: s.tenant, Namespace: s.namespace, Stream: s.name})
	if err != nil {
		return err
	}
	place := s.place()
	place.Position = h.EventPosition
	fault := func(kind Kind, expected, found string) {
		place.Expected, place.Found = expected, found
		v.report.fault(kind, place)
	}
	event, head := fmt.Sprintf("version %d", h.EventVersion), fmt.Sprintf("version %d", h.Version)
	switch {
	case h.Heads > 1:
		fault(HeadRepeated, "one head", fmt.Sprintf("%d heads", h.Heads))
	case h.EventVersion == 0 && h.LastPosition > h.Floor:
		place.Position = h.LastPosition
		fault(HeadWithoutEvents, head, "no event")
	case h.EventVersion == 0: // dropped
	case h.Heads == 0:
		fault(HeadMissing, event, "no head")
	case h.Version < h.EventVersion:
		fault(HeadBehind, event, head)
	case h.Version > h.EventVersion:
		fault(HeadAhead, event, head)
	}
	return nil
}
