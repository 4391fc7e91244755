package simulation

import "time"

// order is an order's life. Its methods are its steps, in the order they
// happen.
type order struct {
	thread

	id        string
	job       string
	channel   string
	total     int
	customer  customer
	attempts  int // to print it
	cancelled bool
	driver    *driver
	distance  float64 // that the driver has yet to go, from 1 to 0
}

// placeOrder is a customer's.
func (b *branch) placeOrder(now time.Time) Event {
	o := &order{
		thread: thread{branch: b}, id: b.number(""), channel: pick(b.Service, channels),
		customer: pick(b.Service, customers), distance: 1,
	}
	o.job = "j-" + o.id
	data := fields{
		"orderId": o.id, "status": "pending", "channel": o.channel, "currency": "EUR", "placedAt": now.UTC().Truncate(time.Second),
	}
	lines, subtotal := o.choose()
	o.total = subtotal
	data["lines"], data["subtotal"] = lines, subtotal
	switch o.channel {
	case "dine_in":
		data["table"] = 1 + o.rng.IntN(20)
	case "delivery":
		const fee = 250
		o.total += fee
		data["deliveryFee"] = fee
		data["customer"] = fields{"name": o.customer.name, "phone": o.customer.phone, "address": o.customer.address}
	default:
		data["customer"] = fields{"name": o.customer.name}
	}
	data["total"] = o.total
	o.later(2, 6, o.answer)
	return o.tell(now, "/orders", "newOrder", data)
}

// choose takes one to four dishes out of the stock.
func (o *order) choose() (lines []fields, subtotal int) {
	for _, i := range o.rng.Perm(len(o.products))[:1+o.rng.IntN(4)] {
		p := o.products[i]
		if !p.available() {
			continue
		}
		quantity := p.sell(1 + o.rng.IntN(2))
		lines = append(lines, fields{"sku": p.sku, "name": p.name, "quantity": quantity, "unitPrice": p.price})
		subtotal += quantity * p.price
	}
	if len(lines) == 0 {
		lines, subtotal = []fields{{"sku": water.sku, "name": water.name, "quantity": 1, "unitPrice": water.price}}, water.price
	}
	return lines, subtotal
}

func (o *order) answer(now time.Time) Event {
	if o.chance(5) {
		e := o.status(now, "rejected")
		e.Data["reason"] = pick(o.Service, rejections)
		return e
	}
	o.later(0, 1, o.queue)
	o.later(3, 8, o.prepare)
	e := o.status(now, "accepted")
	e.Data["promisedAt"] = now.UTC().Truncate(time.Second).Add(time.Duration(20+o.rng.IntN(30)) * time.Minute)
	return e
}

func (o *order) prepare(now time.Time) Event {
	if o.chance(5) {
		return o.cancel(now)
	}
	o.later(4, 10, o.ready)
	return o.status(now, "preparing")
}

func (o *order) cancel(now time.Time) Event {
	o.cancelled = true
	return o.tell(now, "/orders", "orderCancelled", fields{
		"orderId": o.id, "status": "cancelled", "reason": pick(o.Service, regrets), "cancelledBy": "customer", "refund": o.total,
	})
}

func (o *order) ready(now time.Time) Event {
	switch o.channel {
	case "delivery":
		o.later(0, 2, o.assign)
	case "dine_in":
		o.later(1, 2, o.complete)
	default:
		o.later(2, 6, o.pickUp)
	}
	return o.status(now, "ready")
}

func (o *order) pickUp(now time.Time) Event   { return o.status(now, "picked_up") }
func (o *order) complete(now time.Time) Event { return o.status(now, "completed") }

func (o *order) status(now time.Time, status string) Event {
	return o.tell(now, "/orders", "orderStatusUpdate", fields{"orderId": o.id, "status": status})
}
