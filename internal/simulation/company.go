package simulation

import (
	"fmt"
	"time"
)

type company struct {
	*Service

	id string
}

type branch struct {
	*company

	id                  string
	latitude, longitude float64
	products            []*product
	printers            []*printer
	drivers             []*driver
}

// firstBranch makes b7 of c1 the first branch: it is the one that the examples
// everywhere are about. Companies name their branches alike, as companies do.
const firstBranch = 7

// open makes a company and puts its opening on the agenda.
func (s *Service) open(i, branches int) {
	c := &company{Service: s, id: fmt.Sprintf("c%d", i+1)}
	s.companies = append(s.companies, c)
	s.later(0, 0, c.listMenu)
	for j := range branches {
		b := &branch{
			company: c, id: fmt.Sprintf("b%d", firstBranch+j),
			latitude: 52.48 + 0.08*s.rng.Float64(), longitude: 13.30 + 0.16*s.rng.Float64(),
		}
		for _, d := range menu {
			b.products = append(b.products, &product{thread: thread{branch: b}, dish: d, left: 4 + s.rng.IntN(16)})
		}
		for k, place := range printerPlaces {
			p := &printer{branch: b, place: place, address: fmt.Sprintf("192.168.%d.%d:9100", i+1, 50+10*j+k)}
			b.printers = append(b.printers, p)
			s.later(0, 0, p.discover)
		}
		s.branches = append(s.branches, b)
	}
}

// listMenu tells the company what is on the menu tonight.
func (c *company) listMenu(now time.Time) Event {
	var items []fields
	for _, d := range menu {
		items = append(items, fields{"productId": d.sku, "name": d.name, "available": true})
	}
	return c.tell(now, "/availability", "bulkAvailabilityUpdate", fields{"items": items})
}

// listProducts tells a branch all that it has, in one event.
func (b *branch) listProducts(now time.Time) Event {
	var items []fields
	for _, p := range b.products {
		items = append(items, fields{"productId": p.sku, "available": p.available(), "quantity": p.quantity()})
	}
	e := b.tell(now, "/availability", "bulkAvailabilityUpdate", fields{"branchId": b.id, "items": items})
	e.Rooms = []string{"branch:" + b.id}
	return e
}

// alert tells the whole company.
func (c *company) alert(now time.Time) Event {
	n := pick(c.Service, notices)
	return c.tell(now, "/availability", "newAlert", fields{
		"alertId": c.number("a-"), "severity": n.severity, "title": n.title, "message": n.message,
	})
}
