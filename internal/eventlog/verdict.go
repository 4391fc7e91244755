package eventlog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

// What can become of a publish.
var (
	// ErrIDReused is wrapped by IDReusedError.
	ErrIDReused = errors.New("the id was used before, with other content")
	// ErrPartialDuplicate says that some ids of a group are known, others not.
	ErrPartialDuplicate = errors.New("some events of the group are in the log already, others are not")
	// ErrUnavailable says that the log could not be reached in time. The group
	// may be in the log all the same: to find out, publish it again with the
	// same ids.
	ErrUnavailable = errors.New("the log is unavailable")
	// ErrOverloaded says that too much waits for the log already. Nothing of
	// the group is in it.
	ErrOverloaded = errors.New("too much waits for the log")
	// ErrNoPartition says that the log has no partition for the next event.
	// Nothing of the group is in it.
	ErrNoPartition = errors.New("the log has no partition to write to")
	// ErrRefused says that PostgreSQL cannot store a value of the group.
	ErrRefused = errors.New("PostgreSQL refuses a value of the group")
)

// IDReusedError says that the id of an event of the group belongs to an event
// with other content.
type IDReusedError struct{ Index int }

func (e *IDReusedError) Error() string {
	return fmt.Sprintf("event %d of the group: %v", e.Index, ErrIDReused)
}

// Unwrap makes it an ErrIDReused.
func (e *IDReusedError) Unwrap() error { return ErrIDReused }

// Conflict is a stream that has another version than the expected one.
type Conflict struct {
	Index     int // of the group's first event of that stream
	Namespace string
	Stream    string
	Expected  int64
	Current   int64
}

// VersionConflictError says that nothing of the group was appended because of
// these streams.
type VersionConflictError struct{ Conflicts []Conflict }

func (e *VersionConflictError) Error() string {
	c := e.Conflicts[0]
	return fmt.Sprintf("stream %s is at version %d, not %d", c.Stream, c.Current, c.Expected)
}

// AlreadyAnsweredError says that nothing of the group was appended, because one of
// its events would be the second answer to a request.
type AlreadyAnsweredError struct {
	Index int       // of that event
	By    uuid.UUID // the first answer
}

func (e *AlreadyAnsweredError) Error() string {
	return fmt.Sprintf("event %d of the group: event %s has answered this request", e.Index, e.By)
}

// MaxOpen is how many requests of a company, a namespace and a correlation id are open
// at once.
const MaxOpen = 16

// CrowdedError says that nothing of the group was appended, because there would be more
// than MaxOpen requests with one of its correlation ids.
type CrowdedError struct{ Index int } // of the first request too many

func (e *CrowdedError) Error() string {
	return fmt.Sprintf("event %d of the group: %d requests with its correlation id are open", e.Index, MaxOpen)
}

// verdict is what the appender found for a group: receipts, an error, or the
// positions that some of its ids already have (0: unknown).
type verdict struct {
	receipts []event.Receipt
	known    []int64
	err      error
}

// judge gives their verdicts to the groups of b that cannot be appended, and
// returns the rest.
func (b *batch) judge(row *db.EventAppendBatchRow, heads []head) *batch {
	known := map[int]int64{}
	for i, number := range row.Known {
		known[int(number)-1] = row.KnownPositions[i]
	}
	current := map[streamKey]int64{}
	for i, number := range row.Conflicts {
		current[heads[number-1].key] = row.CurrentVersions[i]
	}
	answered := map[int]uuid.UUID{}
	for i, number := range row.Answered {
		answered[int(number)-1] = row.AnsweredIds[i].Bytes
	}
	crowded := map[int]bool{}
	for _, number := range row.Crowded {
		crowded[int(number)-1] = true
	}
	rest := &batch{}
	n := 0
	for _, g := range b.groups {
		first := n
		n += len(g.drafts)
		if positions := g.knownAmong(known, first); positions != nil {
			g.verdict <- verdict{known: positions}
			continue
		}
		if conflicts := g.conflictsAmong(current); conflicts != nil {
			g.verdict <- verdict{err: &VersionConflictError{Conflicts: conflicts}}
			continue
		}
		if late := g.lateAmong(answered, first); late != nil {
			g.verdict <- verdict{err: late}
			continue
		}
		if full := g.crowdedAmong(crowded, first); full != nil {
			g.verdict <- verdict{err: full}
			continue
		}
		rest.add(g)
	}
	return rest
}

func (g *pending) knownAmong(known map[int]int64, first int) []int64 {
	var positions []int64
	for i := range g.drafts {
		if position, ok := known[first+i]; ok {
			if positions == nil {
				positions = make([]int64, len(g.drafts))
			}
			positions[i] = position
		}
	}
	return positions
}

func (g *pending) lateAmong(answered map[int]uuid.UUID, first int) error {
	for i := range g.drafts {
		if by, late := answered[first+i]; late {
			return &AlreadyAnsweredError{Index: i, By: by}
		}
	}
	return nil
}

func (g *pending) crowdedAmong(crowded map[int]bool, first int) error {
	for i := range g.drafts {
		if crowded[first+i] {
			return &CrowdedError{Index: i}
		}
	}
	return nil
}

func (g *pending) conflictsAmong(current map[streamKey]int64) []Conflict {
	var conflicts []Conflict
	told := map[streamKey]bool{}
	for i := range g.drafts {
		d := &g.drafts[i]
		key := keyOf(d)
		version, ok := current[key]
		if !ok || !d.ExpectedVersion.Set || told[key] {
			continue
		}
		told[key] = true
		conflicts = append(conflicts, Conflict{
			Index: i, Namespace: d.Namespace, Stream: d.Stream,
			Expected: d.ExpectedVersion.Version, Current: version,
		})
	}
	return conflicts
}

// settle decides about a group with known ids: a retry of the same content
// gets the old receipts, anything else is told apart.
func (l *Log) settle(ctx context.Context, g *pending, known []int64) ([]event.Receipt, error) {
	matches, err := l.match(ctx, g, known)
	if err != nil {
		return nil, err
	}
	receipts := make([]event.Receipt, len(g.drafts))
	complete := true
	for i, position := range known {
		if position == 0 {
			complete = false
			continue
		}
		m, found := matches[position]
		if found && !m.Same {
			return nil, &IDReusedError{Index: i}
		}
		if !found { // retention has dropped it, and only its place is known
			epochs, err := l.Epochs(ctx)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
			}
			m.Epoch = epochs.At(position).Epoch
		}
		receipts[i] = event.Receipt{
			Cursor: event.Cursor{Epoch: m.Epoch, Position: position}, ID: g.drafts[i].ID,
			Stream: orZero(m.Stream), Version: orZero(m.Version), Duplicate: !g.tried,
		}
	}
	if !complete {
		return nil, ErrPartialDuplicate
	}
	return receipts, nil
}

// match compares the known drafts with the events at their positions. One that
// retention has dropped is not among the result.
func (l *Log) match(ctx context.Context, g *pending, known []int64) (map[int64]db.EventMatchDraftsRow, error) {
	var p db.EventMatchDraftsParams
	for i, position := range known {
		if position == 0 {
			continue
		}
		d := &g.drafts[i]
		p.Positions = append(p.Positions, position)
		p.Namespaces = append(p.Namespaces, d.Namespace)
		p.Types = append(p.Types, d.Type)
		p.Rooms = append(p.Rooms, strings.Join(d.Rooms, roomSeparator))
		p.Streams = append(p.Streams, d.Stream)
		p.CorrelationIds = append(p.CorrelationIds, d.CorrelationID)
		p.Datas = append(p.Datas, d.Data)
	}
	rows, err := l.sql.EventMatchDrafts(ctx, l.pool, p)
	if err != nil {
		return nil, fmt.Errorf("%w: comparing with what is in the log: %w", ErrUnavailable, err)
	}
	byPosition := make(map[int64]db.EventMatchDraftsRow, len(rows))
	for _, r := range rows {
		byPosition[r.Position] = r
	}
	return byPosition, nil
}
