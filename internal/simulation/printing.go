package simulation

import "time"

type printer struct {
	*branch

	place   string // kitchen or counter
	address string
	trouble string // "" is none
}

func (p *printer) printerID() string { return p.branch.id + "-" + p.place }

func (p *printer) status() string {
	if p.trouble == "" {
		return "online"
	}
	return p.trouble
}

func (p *printer) discover(now time.Time) Event {
	return p.printing(now, "printer:discovered", fields{
		"name": printerNames[p.place], "connection": "network", "address": p.address, "model": "TM-T20III", "status": p.status(),
	})
}

// printing is an event about the printer, beside any thread.
func (p *printer) printing(now time.Time, typ string, data fields) Event {
	data["printerId"] = p.printerID()
	t := thread{branch: p.branch}
	return t.tell(now, "/printing-ws", typ, data)
}

// testPrinter asks for a test page, which the desktop app answers.
func (b *branch) testPrinter(now time.Time) Event {
	p, t := pick(b.Service, b.printers), &thread{branch: b}
	b.later(0, 1, func(now time.Time) Event {
		data := fields{"printerId": p.printerID(), "success": p.trouble == "", "durationMs": 900 + b.rng.IntN(2000)}
		if p.trouble != "" {
			data["message"] = troubles[p.trouble]
		}
		return t.tell(now, "/printing-ws", "printer:test:result", data)
	})
	return t.tell(now, "/printing-ws", "printer:test", fields{"printerId": p.printerID(), "text": "Hello from the simulation"})
}

// breakPrinter takes a printer out of service for a while, unless it is out
// already.
func (b *branch) breakPrinter(now time.Time) Event {
	p := pick(b.Service, b.printers)
	if p.trouble != "" {
		return b.placeOrder(now)
	}
	p.trouble = pick(b.Service, troubleNames)
	b.later(3, 8, p.mend)
	return p.printing(now, "printerStatusUpdate", fields{"status": p.trouble, "message": troubles[p.trouble]})
}

func (p *printer) mend(now time.Time) Event {
	p.trouble = ""
	return p.printing(now, "printerStatusUpdate", fields{"status": "online", "message": nil})
}

// queue puts the order's ticket into the kitchen printer's queue.
func (o *order) queue(now time.Time) Event {
	o.later(0, 1, o.print)
	return o.ticket(now, "queued", nil)
}

func (o *order) print(now time.Time) Event {
	if o.cancelled {
		return o.ticket(now, "cancelled", nil)
	}
	o.attempts++
	if trouble := o.printers[0].trouble; trouble != "" {
		o.later(1, 3, o.print)
		return o.ticket(now, "failed", troubles[trouble])
	}
	return o.ticket(now, "printed", nil)
}

// ticket is an update of the order's print job; problem is nil when there is
// none.
func (o *order) ticket(now time.Time, status string, problem any) Event {
	return o.tell(now, "/printing-ws", "printJobUpdate", fields{
		"jobId": o.job, "orderId": o.id, "printerId": o.printers[0].printerID(),
		"status": status, "attempts": o.attempts, "error": problem,
	})
}
