package limit

import (
	"fmt"
	"time"

	"golang.org/x/time/rate"
)

// A connection is closed when it was refused for its speed this often, less as
// many times each second as it is forgiven.
const (
	maxRefusals       = 1000
	forgivenPerSecond = 10
)

// Pace is how fast one WebSocket may send. It is for one goroutine.
type Pace struct {
	limits          *Limits
	frames, publish *rate.Limiter
	refusals        *rate.Limiter // made at the first one
}

// Pace returns the Pace of a new connection.
func (l *Limits) Pace() Pace {
	return Pace{
		limits: l, frames: newBucket(l.config.FrameRatePerConnection), publish: newBucket(l.config.PublishRatePerConnection),
	}
}

// Frame takes one frame of the connection, which is of this company, or of none
// that is known yet. The error is of code rate_limited.
func (p *Pace) Frame(company string) error {
	if p.frames == nil && p.limits.frames == nil {
		return nil
	}
	if wait := take(p.frames, time.Now(), 1); wait > 0 {
		p.limits.Hit(FrameRatePerConnection)
		return tooFast(fmt.Sprintf("the connection sends more than %d messages a second", p.limits.config.FrameRatePerConnection), wait)
	}
	if wait := p.limits.frames.take(company, 1); wait > 0 {
		p.limits.Hit(FrameRatePerCompany)
		return tooFast(fmt.Sprintf("the company's connections send more than %d messages a second",
			p.limits.config.FrameRatePerCompany), wait)
	}
	return nil
}

// Publish takes events that the connection publishes. The error is of code
// rate_limited.
func (p *Pace) Publish(events int) error {
	if p.publish == nil {
		return nil
	}
	wait := take(p.publish, time.Now(), events)
	if wait == 0 {
		return nil
	}
	p.limits.Hit(PublishRatePerConnection)
	return tooFast(fmt.Sprintf("the connection publishes more than %d events a second", p.limits.config.PublishRatePerConnection), wait)
}

// Flooding counts a refusal, and reports whether there were so many that nobody
// at the other end can be listening to them.
func (p *Pace) Flooding() bool {
	if p.refusals == nil {
		p.refusals = rate.NewLimiter(forgivenPerSecond, maxRefusals)
	}
	if p.refusals.Allow() {
		return false
	}
	p.limits.Hit(Flood)
	return true
}
