package examples_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/client"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/load"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// evening is how long everything is killed, cut and out of paper.
const evening = 10 * time.Second

// crowd is how many jobs come while the agent is away, and cooked how many of them are
// orders first: the kitchen makes one at a time, and the rest are bills.
const crowd, cooked = 5000, 1000

// Two instances, the kitchen and the agent are killed with -9 at random, the network
// is cut and hangs, printers run out of paper, and then the agent is away while
// 5,000 jobs come in. After that every job was printed once or is reported to be
// too late, every test page is answered or expired, and nothing is there that does
// not follow from what was asked for.
func TestExamples_SurviveEverything(t *testing.T) {
	t.Parallel()
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	fmt.Fprintln(t.Output(), "-seed", s)
	c := newCluster(t)
	b := newBranch(t, c.lines[0].URL(), c.lines[1].URL())
	b.kitchen.start()
	b.agent.start()
	b.await(2, discovered, "the agent is there")
	first := b.publish(order("first")) // the kitchen is there when this is a job, as soon as it has come once
	apptest.Eventually(t, func() bool {
		if b.count(updated("printed")) > 0 {
			return true
		}
		first = append(first, b.publish(order(fmt.Sprint("first-", len(first))))...)
		return false
	}, apptest.Patience, 200*time.Millisecond)
	missed := len(first) - b.count(queued)

	orders := slices.Concat(first, c.disturb(b, s))
	t.Logf("%d orders in the evening, %d of them before the kitchen opened", len(orders), missed)

	// The agent is away.
	b.agent.kill()
	began := time.Now()
	var bills, late []string
	for n := 0; n < crowd; n += 500 {
		var group []client.Draft
		for i := range 500 * cooked / crowd {
			group = append(group, order(fmt.Sprint("crowd-", n+i)))
		}
		orders = append(orders, b.publish(group...)...)
		for group = nil; len(group) < 500-500*cooked/crowd; {
			group = append(group, job([]string{"kitchen-b7", "bar-b7"}[len(group)%2], time.Hour))
		}
		bills = append(bills, b.publish(group...)...)
		late = append(late, b.publish(job("kitchen-b7", time.Second), job("bar-b7", time.Second))...)
		b.publish(testPage("kitchen-b7", time.Second))
		if n%2000 == 0 {
			require.True(t, b.kitchen.kill())
			b.kitchen.start()
		}
	}
	jobs := len(orders) - missed + len(bills) + len(late)
	b.await(jobs, queued, "the kitchen makes a job of each order")
	t.Logf("%d orders became jobs in %s", cooked, time.Since(began).Round(time.Millisecond))

	// It is back, and killed while it catches up.
	began = time.Now()
	random := rand.New(rand.NewPCG(s, 4))
	for range 4 {
		b.agent.start()
		<-time.After(time.Duration(500+random.IntN(1500)) * time.Millisecond)
		require.True(t, b.agent.kill(), "the agent has ended by itself: %v", b.agent.said.all())
	}
	b.agent.start()
	b.await(jobs, func(e seen) bool { return e.Type == "printJobUpdate" && final(e) }, "each job comes to its end")
	t.Logf("and were printed within %s", time.Since(began).Round(time.Millisecond))
	c.judge(b, orders, missed, bills, late)
}

// judge looks at what the log says, and at the paper.
func (c *cluster) judge(b *branch, orders []string, missed int, bills, late []string) {
	t := c.t
	t.Helper()
	var asked []client.Asked
	apptest.Eventually(t, func() bool {
		asked = nil
		for a, err := range b.shop.Requests(t.Context(), client.RequestQuery{Types: []string{"printer:test"}}) {
			require.NoError(t, err)
			if asked = append(asked, a); a.Status == "pending" {
				return false
			}
		}
		return true
	}, 2*apptest.Patience, 200*time.Millisecond, "every request is answered or expired")
	b.kitchen.stop()
	b.agent.stop()
	require.Empty(t, b.kitchen.said.all())
	require.Empty(t, b.agent.said.all())

	var log []seen
	for e, err := range b.shop.History(t.Context(), client.Query{}) {
		require.NoError(t, err)
		log = append(log, see(e))
	}
	require.Eventually(t, func() bool { return b.count(anything) == len(log) }, apptest.Patience, 50*time.Millisecond)
	require.Empty(t, b.wrong)
	require.Empty(t, b.left(), "paper of which nobody knows")

	placed, pages, ends := map[string]seen{}, map[string]seen{}, map[string]seen{} // orders, what asks for paper, and what became of it
	for _, e := range log {
		switch {
		case e.Type == "newOrder":
			placed[e.ID] = e
		case queued(e) && e.CausationID != "":
			o, known := placed[e.CausationID]
			require.True(t, known, "a job without an order: %s", e.Raw)
			require.Equal(t, client.DeriveID(o.ID, "print job"), e.ID)
			require.Equal(t, o.CorrelationID, e.CorrelationID)
			pages[e.ID] = e
		case queued(e), e.Type == "printer:test":
			pages[e.ID] = e
		case final(e):
			page, known := pages[e.CausationID]
			require.True(t, known, "nobody asked for it: %s", e.Raw)
			_, twice := ends[page.ID]
			require.False(t, twice, "it has ended before: %s", e.Raw)
			require.Equal(t, page.CorrelationID, e.CorrelationID)
			require.Equal(t, page.JobID, e.JobID)
			ends[page.ID] = e
		}
	}
	require.Len(t, placed, len(orders))
	jobless := 0
	for _, id := range orders {
		job := client.DeriveID(id, "print job")
		if _, there := pages[job]; !there {
			jobless++ // it was there before the kitchen
			continue
		}
		require.Equal(t, "printed", ends[job].Status)
		require.Equal(t, fmt.Sprintf("Order %s\n  2 x Pizza %[1]s\n\n", placed[id].OrderID), b.paper[job])
	}
	require.Equal(t, missed, jobless)
	for _, id := range bills {
		require.Equal(t, "printed", ends[id].Status)
		require.Equal(t, "Bill\n", b.paper[id])
	}
	for _, id := range late {
		require.Equal(t, "expired", ends[id].Status)
		require.NotContains(t, b.paper, id)
	}
	results := map[string]int{}
	for _, a := range asked {
		e, ended := ends[a.Request.ID]
		require.Equal(t, ended, a.Status == "answered", "%s: %s", a.Status, a.Request.Raw)
		if ended {
			require.Equal(t, e.ID, a.Reply.ID)
		}
		_, there := b.paper[a.Request.ID]
		require.Equal(t, ended && onPaper(e), there)
		results[fmt.Sprint(a.Status, ", on paper: ", there)]++
	}
	t.Logf("test pages: %v; killed: %v", results, c.killed)
	require.Len(t, b.paper, len(orders)-missed+len(bills)+results["answered, on paper: true"], "and nothing else is on paper")
}

// cluster is two instances, each behind a line that stays when it is killed.
type cluster struct {
	t       testing.TB
	program string
	environ []string
	lines   [2]*apptest.Line

	mu        sync.Mutex // the evening's
	instances [2]*load.Process
	killed    map[string]int
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{t: t, program: load.Build(t), killed: map[string]int{}, environ: []string{
		"DATABASE_URL=" + pgtest.Writer(pgtest.Database(t)), "JWT_SECRET=" + apptest.Secret, "PORT=0", "TAILROOM_MIGRATE=off",
		"CLUSTER_SECRET=" + apptest.ClusterSecret, "TAILROOM_HEARTBEAT=500ms", "LOG_LEVEL=info",
	}}
	for i := range c.lines {
		c.lines[i] = apptest.NewLine(t, "")
		require.NoError(t, c.start(i))
		t.Cleanup(func() { c.kill(i) })
	}
	return c
}

func (c *cluster) start(i int) error {
	p, err := load.Start(c.t.Context(), c.program, apptest.Log, slices.Concat(c.environ, []string{fmt.Sprint("INSTANCE_ID=i", i)})...)
	if err != nil {
		return err
	}
	c.instances[i] = p
	c.lines[i].Turn(p.URL)
	return nil
}

func (c *cluster) kill(i int) {
	c.instances[i].Signal(syscall.SIGKILL)
	<-c.instances[i].Done()
}

// disturb is the evening. It returns the orders that were placed meanwhile.
func (c *cluster) disturb(b *branch, s uint64) (orders []string) {
	c.t.Helper()
	over := time.Now().Add(evening)
	var evening sync.WaitGroup
	// Each does something, and then pauses, for some milliseconds.
	each := func(stream uint64, least, most int, do func(*rand.Rand) error) {
		random := rand.New(rand.NewPCG(s, stream))
		evening.Go(func() {
			for time.Now().Before(over) {
				if err := do(random); err != nil {
					c.t.Errorf("in the evening: %v", err) // only the test's own goroutine may end it
					return
				}
				<-time.After(time.Duration(least+random.IntN(most-least)) * time.Millisecond)
			}
		})
	}
	pause := func(random *rand.Rand, most int) { <-time.After(time.Duration(random.IntN(most)) * time.Millisecond) }
	each(1, 100, 1200, func(random *rand.Rand) error {
		p, name := b.kitchen, "kitchen"
		if random.IntN(2) == 0 {
			p, name = b.agent, "agent"
		}
		if !p.kill() {
			return fmt.Errorf("the %s has ended by itself: %v", name, p.said.all())
		}
		c.killed[name]++ // this goroutine's alone, as is "instance" the next one's
		pause(random, 400)
		return p.tryStart()
	})
	instances := 0
	each(2, 500, 2000, func(random *rand.Rand) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := random.IntN(2)
		c.kill(i)
		instances++
		pause(random, 500)
		return c.start(i)
	})
	each(3, 1000, 3000, func(random *rand.Rand) error {
		i := random.IntN(2)
		switch random.IntN(3) {
		case 0: // all of the network
			c.lines[0].Turn("")
			c.lines[1].Turn("")
		case 1:
			c.lines[i].Turn("")
		default: // half-open
			c.lines[i].Hang()
		}
		pause(random, 1200)
		c.mu.Lock()
		defer c.mu.Unlock()
		for i := range c.lines {
			c.lines[i].Turn(c.instances[i].URL)
		}
		return nil
	})
	each(5, 100, 1500, func(random *rand.Rand) error {
		p := []string{"kitchen-b7", "bar-b7"}[random.IntN(2)]
		broken := b.tryPrinter(p, []string{"paper_out", "offline", "slow"}[random.IntN(3)])
		pause(random, 1000)
		return errors.Join(broken, b.tryPrinter(p, ""))
	})
	each(6, 50, 300, func(random *rand.Rand) error {
		p := []string{"kitchen-b7", "bar-b7", "nobody's"}[random.IntN(3)]
		_, err := b.tryPublish(testPage(p, time.Duration(200+random.IntN(4000))*time.Millisecond))
		return err
	})
	var mu sync.Mutex
	for till := range uint64(4) {
		each(7+till, 10, 100, func(random *rand.Rand) error {
			var group []client.Draft
			for n := range 1 + random.IntN(8) {
				group = append(group, order(fmt.Sprintf("evening-%d-%d-%d", till, time.Now().UnixMicro(), n)))
			}
			ids, err := b.tryPublish(group...)
			mu.Lock()
			defer mu.Unlock()
			orders = append(orders, ids...)
			return err
		})
	}
	evening.Wait()
	c.killed["instance"] = instances
	return orders
}
