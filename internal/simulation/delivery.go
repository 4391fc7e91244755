package simulation

import (
	"fmt"
	"math"
	"time"
)

type driver struct {
	id, name            string
	latitude, longitude float64 // of where he is to go
	busy                bool
}

// freeDriver returns one who has nothing to deliver, another one if need be.
func (b *branch) freeDriver() *driver {
	for _, d := range b.drivers {
		if !d.busy {
			return d
		}
	}
	n := len(b.drivers)
	d := &driver{id: fmt.Sprintf("%s-d%d", b.id, n+1), name: driverNames[n%len(driverNames)]}
	b.drivers = append(b.drivers, d)
	return d
}

func (o *order) assign(now time.Time) Event {
	d := o.freeDriver()
	d.busy = true
	d.latitude, d.longitude = o.latitude+(o.rng.Float64()-0.5)/25, o.longitude+(o.rng.Float64()-0.5)/25
	o.driver = d
	o.later(1, 2, o.leave)
	return o.drive(now, "assigned")
}

func (o *order) leave(now time.Time) Event {
	o.later(0, 1, o.ride)
	return o.status(now, "out_for_delivery")
}

// ride tells where the driver is, until he is there.
func (o *order) ride(now time.Time) Event {
	o.distance = max(0, o.distance-0.3-0.3*o.rng.Float64())
	if o.distance == 0 {
		o.later(0, 1, o.deliver)
		return o.drive(now, "arrived")
	}
	o.later(1, 3, o.ride)
	return o.drive(now, "on_the_way")
}

func (o *order) deliver(now time.Time) Event {
	o.later(2, 4, o.goHome)
	return o.status(now, "delivered")
}

func (o *order) goHome(now time.Time) Event {
	o.driver.busy = false
	return o.tell(now, "/orders", "driverUpdate", fields{
		"driverId": o.driver.id, "name": o.driver.name, "orderId": nil, "status": "available", "location": nil, "etaMinutes": nil,
	})
}

// drive is an update of the driver with this order.
func (o *order) drive(now time.Time, status string) Event {
	d, gone := o.driver, 1-o.distance
	return o.tell(now, "/orders", "driverUpdate", fields{
		"driverId": d.id, "name": d.name, "orderId": o.id, "status": status, "etaMinutes": math.Ceil(15 * o.distance),
		"location": fields{
			"latitude":  degrees(o.latitude + gone*(d.latitude-o.latitude)),
			"longitude": degrees(o.longitude + gone*(d.longitude-o.longitude)),
		},
	})
}

// degrees rounds to ten centimetres or so.
func degrees(d float64) float64 { return math.Round(d*1e6) / 1e6 }
