package crash_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/problem"
)

// group is events that are published whole or not at all.
type group struct {
	events []json.RawMessage
	ids    []string // of the events
	fresh  []string // of those that nobody has published before
	// refusal is the code that the group must be refused with, "" if it must be
	// taken in the end; maybe is one that it may be refused with.
	refusal, maybe problem.Code
	version        int64 // that its first event must get; 0 is any
	tried          bool
	made           time.Time
}

// body is the group as one publishes it.
func (g *group) body() string {
	if len(g.events) == 1 {
		return string(g.events[0])
	}
	texts := make([]string, len(g.events))
	for i, e := range g.events {
		texts[i] = string(e)
	}
	return "[" + strings.Join(texts, ",") + "]"
}

// writer makes groups of a company's events.
type writer struct {
	random  *rand.Rand
	company string
	stream  string // that nobody else writes to
	version int64  // that it has
	known   *group // one event that is in the log
}

// knownFor is for how long the log is asked about an id: until well before the
// shortest window ends, for the answer can take some tries.
const knownFor = 20 * time.Second

// group makes one. Most are of events of any kind.
func (w *writer) group() *group {
	switch w.random.IntN(16) {
	case 0, 1: // to a stream that others write to as well
		fields := w.event()
		fields["namespace"], fields["type"], fields["expectedVersion"] = "/orders", "newOrder", w.random.IntN(4)
		g := groupOf(fields)
		g.maybe = problem.VersionConflict
		return g
	case 2:
		fields := w.event()
		fields["data"] = map[string]any{"branchId": "b1", "orderId": "1", "printerId": "p1", "note": "no text in jsonb: \x00"}
		g := groupOf(fields)
		g.refusal = problem.SchemaViolation
		return g
	case 3:
		if w.known == nil || time.Since(w.known.made) > knownFor {
			return w.group()
		}
		g := groupOf(w.event())
		g.refusal, g.events, g.ids = problem.PartialDuplicate, append(g.events, w.known.events[0]), append(g.ids, w.known.ids[0])
		return g
	}
	list := make([]map[string]any, 1+w.random.IntN(4))
	for i := range list {
		list[i] = w.event()
	}
	return groupOf(list...)
}

// next makes a group that goes on with the writer's own stream. It cannot conflict.
func (w *writer) next() *group {
	list := make([]map[string]any, 1+w.random.IntN(3))
	for i := range list {
		list[i] = w.event()
		list[i]["namespace"], list[i]["type"], list[i]["stream"] = "/orders", "newOrder", w.stream
	}
	list[0]["expectedVersion"] = w.version
	g := groupOf(list...)
	g.version = w.version + 1
	return g
}

// taken is told that a group was taken.
func (w *writer) taken(g *group) {
	if g.version > 0 {
		w.version = g.version + int64(len(g.ids)) - 1
	} else if len(g.ids) == 1 && g.maybe == "" {
		w.known = g
	}
}

// event makes an event.
func (w *writer) event() map[string]any {
	branch, id := fmt.Sprintf("b%d", 1+w.random.IntN(3)), uuid.NewString()
	e := map[string]any{
		"id": id, "namespace": "/orders", "type": "newOrder",
		"data": map[string]any{
			"orderId": strconv.Itoa(w.random.IntN(20)), "printerId": "p1", "branchId": branch,
			"note": id + ", " + w.company + strings.Repeat(".", w.random.IntN(1500)),
		},
	}
	if w.random.IntN(4) == 0 {
		e["namespace"], e["type"] = "/printing-ws", "printer:test"
	}
	switch w.random.IntN(6) {
	case 0:
		e["rooms"] = []string{"branch:b1", "branch:b2"}
	case 1:
		e["rooms"] = []string{"company:" + w.company}
	}
	return e
}

func groupOf(list ...map[string]any) *group {
	g := &group{made: time.Now()}
	for _, fields := range list {
		g.ids = append(g.ids, fields["id"].(string))
		raw, err := json.Marshal(fields)
		if err != nil {
			panic(err) // texts and numbers
		}
		g.events = append(g.events, raw)
	}
	g.fresh = g.ids
	return g
}

// answer is what a publisher was told of a group: receipts, a code, or an error
// if nothing.
type answer struct {
	receipts []apptest.Receipt
	code     problem.Code
	err      error
}

// definite reports whether the answer says what became of the group, whatever
// had been tried before.
func (a *answer) definite() bool {
	return a.err == nil && a.code != problem.Unavailable && a.code != problem.Overloaded && a.code != problem.Draining
}

// judge is an error if the group must not be answered so.
func (a *answer) judge(g *group) error {
	if a.code != "" {
		if a.code != g.refusal && a.code != g.maybe {
			return fmt.Errorf("%w: %s was answered by %s", errWrong, g.body(), a.code)
		}
		return nil
	}
	if g.refusal != "" || len(a.receipts) != len(g.ids) {
		return fmt.Errorf("%w: %s was taken: %v", errWrong, g.body(), a.receipts)
	}
	for i, r := range a.receipts {
		if r.ID != g.ids[i] || g.version > 0 && *r.Version != g.version+int64(i) {
			return fmt.Errorf("%w: %s was answered by %+v", errWrong, g.body(), r)
		}
	}
	return nil
}
