package apptest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// tinyWindow makes almost every resume leave the window: the seam between it
// and the log is crossed again and again.
var tinyWindow = []string{"TAILROOM_WINDOW_BYTES=64KiB", "TAILROOM_MAX_EVENT_BYTES=16KiB", "TAILROOM_HEARTBEAT=2s"}

// newRandom differs from run to run; a test that fails says how it began.
func newRandom(t *testing.T) func() *rand.Rand {
	t.Helper()
	seed, actor := rand.Uint64(), uint64(0)
	t.Logf("seed %d", seed)
	return func() *rand.Rand { actor++; return rand.New(rand.NewPCG(seed, actor)) }
}

func pick[T any](random *rand.Rand, list []T) T { return list[random.IntN(len(list))] }

// shuffled are the instances in some order.
func shuffled(random *rand.Rand, instances []*apptest.Instance) []*apptest.Instance {
	list := slices.Clone(instances)
	random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// randomGroup is a body to publish, for a company, and the ids of its events.
func randomGroup(random *rand.Rand, company string, most int) (body string, ids []string) {
	events := make([]string, 1+random.IntN(most))
	for n := range events {
		id := uuid.NewString()
		ids = append(ids, id)
		fields := map[string]any{"id": id}
		branch := fmt.Sprintf("b%d", 1+random.IntN(3))
		switch random.IntN(4) {
		case 0:
			fields["namespace"], fields["type"] = "/printing-ws", "printer:test"
			fields["data"] = map[string]any{"printerId": "p1", "branchId": branch}
		default:
			fields["namespace"], fields["type"] = "/orders", "newOrder"
			fields["data"] = map[string]any{
				"orderId": strconv.Itoa(random.IntN(20)), "branchId": branch, "note": strings.Repeat("x", random.IntN(3000)),
			}
			if random.IntN(4) == 0 && n == 0 {
				fields["expectedVersion"] = random.IntN(3)
			}
		}
		switch random.IntN(6) {
		case 0:
			fields["rooms"] = []string{"branch:b1", "branch:b2"}
		case 1:
			fields["rooms"] = []string{"company:" + company}
		}
		raw, err := json.Marshal(fields)
		if err != nil {
			panic(err) // texts and numbers
		}
		events[n] = string(raw)
	}
	if len(events) == 1 {
		return events[0], ids
	}
	return "[" + strings.Join(events, ",") + "]", ids
}

// end publishes what every follower waits for: one event for each namespace
// and all rooms.
func end(t *testing.T, i *apptest.Instance, company string) {
	t.Helper()
	rooms := `["company:` + company + `","branch:b1","branch:b2","branch:b3"]`
	i.Publish(t, apptest.Token(t, access.Service, company), `[
		{"namespace":"/orders","type":"newOrder","rooms":`+rooms+`,"data":{`+last+`,"branchId":"b1"}},
		{"namespace":"/printing-ws","type":"printer:test","rooms":`+rooms+`,"data":{"printerId":"p1","branchId":"b1",`+last+`}}]`)
}

// audience are followers of every kind: the company's and a branch's people,
// of one room, over sockets and streams, from the beginning and from now.
func audience(t *testing.T) []*follower {
	t.Helper()
	in := func(company, namespace string, rooms ...string) func(*event.Entry) bool {
		return func(e *event.Entry) bool {
			return e.Tenant == company && e.Namespace == namespace &&
				(rooms == nil || slices.ContainsFunc(e.Rooms, func(room string) bool { return slices.Contains(rooms, room) }))
		}
	}
	wide, branch := apptest.Token(t, access.Web, "c1"), apptest.Token(t, access.DesktopApp, "c1", "b1", "b3")
	return []*follower{
		{token: wide, namespace: "/orders", cursor: "earliest", matches: in("c1", "/orders")},
		{token: wide, namespace: "/printing-ws", cursor: "now", matches: in("c1", "/printing-ws")},
		{token: wide, namespace: "/orders", rooms: []string{"branch:b2"}, cursor: "now", matches: in("c1", "/orders", "branch:b2")},
		{token: branch, namespace: "/orders", cursor: "now", matches: in("c1", "/orders", "company:c1", "branch:b1", "branch:b3")},
		{
			token: branch, namespace: "/orders", rooms: []string{"branch:b3"}, cursor: "earliest",
			matches: in("c1", "/orders", "branch:b3"),
		},
		{token: branch, namespace: "/printing-ws", cursor: "earliest", matches: in("c1", "/printing-ws", "company:c1", "branch:b1", "branch:b3")},
		{token: apptest.Token(t, access.Web, "c2"), namespace: "/orders", cursor: "earliest", matches: in("c2", "/orders")},
	}
}

// Several writers on two instances, and readers that come, leave and go on
// where they were, on either: nobody misses anything, nobody gets anything
// twice, and every promise holds.
func TestOrder_NobodyMissesAnything(t *testing.T) {
	t.Parallel()
	const writers, publishes = 5, 60
	dsn := pgtest.Database(t)
	patient := append(slices.Clone(tinyWindow), "TAILROOM_PUBLISH_TIMEOUT=1m") // nobody has to come again because the machine is busy
	instances := []*apptest.Instance{apptest.Start(t, dsn, patient...), apptest.Start(t, dsn, patient...)}
	randoms := newRandom(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	first := &publisher{token: apptest.Token(t, access.Service, "c1")}
	for random := randoms(); len(first.accepted) < 700; { // there is something to replay
		body, ids := randomGroup(random, "c1", 500)
		_, err := first.publish(ctx, instances, body, ids)
		require.NoError(t, err)
	}
	publishers := []*publisher{first}

	var reading errgroup.Group
	followers := audience(t)
	for _, f := range audience(t) { // the same again, over streams
		if f.cursor == "now" {
			f.cursor = "1-0"
		}
		followers = append(followers, f)
	}
	for n, f := range followers {
		random, follow := randoms(), f.socket
		if n >= len(followers)/2 {
			follow = f.stream
		}
		reading.Go(func() error {
			for wait(ctx, time.Duration(random.IntN(100))*time.Millisecond); f.ends == 0; {
				left := 1 + random.IntN(100)
				err := follow(ctx, pick(random, instances), func() bool { left--; return left <= 0 || f.ends > 0 })
				if err != nil {
					return fmt.Errorf("follower %d: %w", n, err)
				}
				wait(ctx, time.Duration(random.IntN(60))*time.Millisecond)
			}
			return nil
		})
	}

	writing, writeCtx := errgroup.WithContext(ctx)
	for w := range writers {
		random := randoms()
		company := "c1"
		if w == 0 {
			company = "c2"
		}
		p := &publisher{token: apptest.Token(t, access.Service, company)}
		publishers = append(publishers, p)
		writing.Go(func() error {
			for range publishes {
				body, ids := randomGroup(random, company, 6)
				for again := true; again; again = again && random.IntN(8) == 0 { // and now and then a retry
					var err error
					if again, err = p.publish(writeCtx, shuffled(random, instances), body, ids); err != nil {
						return err
					}
				}
				wait(writeCtx, time.Duration(random.IntN(10))*time.Millisecond)
			}
			return nil
		})
	}
	require.NoError(t, writing.Wait())
	defer time.AfterFunc(2*apptest.Patience, cancel).Stop()
	end(t, instances[0], "c1")
	end(t, instances[1], "c2")
	require.NoError(t, reading.Wait())

	log := readLog(t, dsn)
	require.Greater(t, len(log), writers*publishes)
	for _, i := range instances {
		require.Positive(t, i.Metric(t, "tailroom_hub_cold_reads_total"), "the seam was crossed")
	}
	for n, f := range followers {
		require.NoError(t, f.check(log, f.matches), "follower %d", n)
		require.Equal(t, 1, f.ends)
	}
	for _, p := range publishers {
		require.NoError(t, p.check(log))
		require.Zero(t, p.retried)
	}
}
