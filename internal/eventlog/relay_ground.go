package eventlog

// maxGaps is how many gaps a leader remembers one by one.
const maxGaps = 1000

// ground is where a leader has been in the outbox, so that he does not search
// what he has relayed for rows that are left: as long as some old transaction
// runs, nothing of that can be vacuumed, and each look would read all of it.
//
// Rows do not become visible in the order of their numbers. What lies below the
// highest row that was relayed, and was not relayed itself, is a gap: a row of a
// transaction that still runs, or of one that was rolled back. It is closed when a
// page was read after every transaction had ended that could have drawn a number
// up to it.
//
// The zero ground is that of a leader who has just come.
type ground struct {
	high     int64 // nothing above it was relayed
	gaps     gaps  // at and below high, in order
	anchored bool  // what lay below high when the leader came is closed
}

// span is some consecutive numbers.
type span struct{ first, last int64 }

type gaps []span

// known reports whether there is nothing to close.
func (g *ground) known() bool { return g.anchored && len(g.gaps) == 0 }

// cover notes that the rows of a page, the lowest that were visible, are relayed.
// No row up to settled could become visible after the page was read (-1: unknown).
func (g *ground) cover(page []int64, settled int64) {
	if n := len(page); n > 0 {
		last := page[n-1]
		settled = min(settled, last) // there may be more behind the page
		if last > g.high {
			g.gaps = append(g.gaps, span{g.high + 1, last})
			g.high = last
		}
		g.gaps = g.gaps.without(page)
	}
	if settled >= 0 {
		g.anchored = true
		g.high = max(g.high, settled)
		g.gaps = g.gaps.above(settled)
	}
	if n := len(g.gaps); n > maxGaps {
		g.gaps = gaps{{g.gaps[0].first, g.gaps[n-1].last}}
	}
}

// without returns g without some numbers of it, which are in order.
func (g gaps) without(numbers []int64) gaps {
	var left gaps
	for _, s := range g {
		for len(numbers) > 0 && numbers[0] <= s.last {
			left = left.with(span{s.first, numbers[0] - 1})
			s.first = numbers[0] + 1
			numbers = numbers[1:]
		}
		left = left.with(s)
	}
	return left
}

// above returns what of g is above a number.
func (g gaps) above(number int64) gaps {
	var left gaps
	for _, s := range g {
		s.first = max(s.first, number+1)
		left = left.with(s)
	}
	return left
}

// with returns g with one more span behind it, if that is not empty.
func (g gaps) with(s span) gaps {
	if s.first > s.last {
		return g
	}
	return append(g, s)
}

// bounds are the spans as SQL wants them.
func (g gaps) bounds() (firsts, lasts []int64) {
	for _, s := range g {
		firsts, lasts = append(firsts, s.first), append(lasts, s.last)
	}
	return firsts, lasts
}
