package simulation

import "time"

// threshold is how many portions are few.
const threshold = 3

// product is a dish at a branch. Its thread runs from a shortage to the moment
// when it is on the menu again.
type product struct {
	thread
	dish

	left int // portions; what is endless is not counted
	low  bool
	off  bool // people were told
}

func (p *product) available() bool { return p.endless || p.left > 0 && !p.off }

// quantity is what is left, nil when it is not counted.
func (p *product) quantity() any {
	if p.endless {
		return nil
	}
	return p.left
}

// sell takes portions out of the stock, and returns how many there were.
func (p *product) sell(portions int) int {
	if p.endless {
		return portions
	}
	portions = min(portions, p.left)
	p.left -= portions
	switch left := p.left; {
	case left == 0:
		p.later(0, 0, p.runOut)
	case left <= threshold && !p.low:
		p.low = true
		p.later(0, 0, func(now time.Time) Event { return p.alert(now, "low", left) })
	}
	return portions
}

func (p *product) runOut(now time.Time) Event {
	p.later(0, 0, p.takeOff)
	return p.alert(now, "out", 0)
}

func (p *product) takeOff(now time.Time) Event {
	p.off = true
	p.later(8, 16, p.restock)
	return p.offer(now, "Sold out")
}

func (p *product) restock(now time.Time) Event {
	p.left = 10 + p.rng.IntN(10)
	p.later(0, 0, p.putOn)
	return p.alert(now, "ok", p.left)
}

func (p *product) putOn(now time.Time) Event {
	p.off, p.low = false, false
	e := p.offer(now, nil)
	p.thread = thread{branch: p.branch} // the story is over
	return e
}

func (p *product) alert(now time.Time, level string, left int) Event {
	return p.tell(now, "/availability", "stockAlert", fields{
		"productId": p.sku, "name": p.name, "quantity": left, "threshold": threshold, "unit": "portions", "level": level,
	})
}

// offer tells whether the product can be sold; reason is nil when it can.
func (p *product) offer(now time.Time, reason any) Event {
	return p.tell(now, "/availability", "availabilityUpdate", fields{
		"productId": p.sku, "name": p.name, "available": !p.off, "quantity": p.left, "reason": reason,
	})
}
