package eventlog

// maxTenantPart is what one tenant gives to a batch at most, unless a single
// group is larger. A batch cannot be interrupted: who comes while one is under
// way waits for all of it, and then for his own. So the batches of a tenant who
// is busy alone are kept short, which costs him a twentieth of his throughput,
// and they grow with the number of those who are busy.
const maxTenantPart = maxBatchBytes / 4

// lane is what waits of one tenant.
//
// Lanes take turns by start-time fair queueing (Goyal, Vin and Cheng, IEEE/ACM
// Transactions on Networking 5(5), 1997). The lane with the least start gives its
// oldest group, and its start moves on by what that costs. A lane that was empty
// starts at the clock, which is where the last turn started: it is before all
// that have given something since, and has gained nothing by being away. So who
// publishes little waits for nobody's backlog, however many have one. Deficit
// round robin (Shreedhar and Varghese, 1995) shares as fairly, but a newcomer
// waits there until every other lane has had its turn.
type lane struct {
	tenant string
	ready  sorted[*pending] // may be taken
	groups int              // all that wait, also in lines
	bytes  int

	start  int64
	since  int64 // the arrival that brought it among the turns: of equals, the first is first
	queued bool  // it is among the turns
}

// cost is what part of a batch g takes, of its events or of its bytes, whichever
// is more, in bytes.
func (g *pending) cost() int {
	return max(g.bytes, len(g.drafts)*(maxBatchBytes/maxBatchEvents))
}

// ready lets g wait for its lane's turn.
func (q *queue) ready(g *pending) {
	l := g.lane
	g.wait(&l.ready)
	if !l.queued {
		l.start, l.since, l.queued = q.clock, g.arrival, true
		q.turns.add(l)
	}
}

// charge moves l, which has the turn, on by the cost of g.
func (q *queue) charge(l *lane, g *pending) {
	q.clock = l.start
	l.start += int64(g.cost())
	q.turns.resort(0)
}

// retire takes l, which has the turn and nothing to give, from the turns. As no
// other start is less, the clock may move on to its own, and then l has nothing
// that is worth remembering.
func (q *queue) retire(l *lane) {
	q.clock = l.start
	q.turns.remove(0)
	l.queued = false
	q.forget(l)
}

// forget drops l if it is empty and of no account.
func (q *queue) forget(l *lane) {
	if l.groups == 0 && !l.queued {
		delete(q.lanes, l.tenant)
	}
}

// Before is the order of turns.
func (l *lane) Before(other *lane) bool {
	if l.start != other.start {
		return l.start < other.start
	}
	return l.since < other.since
}

// Moved is for the heap: only the lane that has the turn is ever moved.
func (*lane) Moved(int) {}
