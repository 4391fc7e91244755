package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/tailroom/tailroom/internal/verify"
)

// How often progress is shown: a terminal's line is written over, and elsewhere
// each is one more in somebody's log.
const (
	barPeriod  = 100 * time.Millisecond
	linePeriod = 10 * time.Second
	barWidth   = 12
)

// progress shows how far something has come that takes long.
type progress struct {
	status *status
	period time.Duration
	step   int
	begun  time.Time // the step
	shown  time.Time
}

func newProgress(s *status) *progress {
	p := &progress{status: s, period: linePeriod, shown: time.Now()}
	if s.terminal {
		p.period = barPeriod
	}
	return p
}

func (p *progress) show(at verify.Progress) {
	now := time.Now()
	if at.Number != p.step {
		p.step, p.begun = at.Number, now
	}
	if now.Sub(p.shown) < p.period {
		return
	}
	p.shown = now
	if line := progressLine(at, now.Sub(p.begun)); p.status.terminal {
		p.status.showf("%s", line)
	} else {
		p.status.printf("%s", line)
	}
}

// erase empties the line, if there is one.
func (p *progress) erase() {
	if p.step > 0 {
		p.status.showf("")
	}
}

// progressLine says how far a step has come in some time, and how long it will
// still take at this rate.
func progressLine(at verify.Progress, elapsed time.Duration) string {
	step := fmt.Sprintf("%d/%d %s: %d", at.Number, at.Steps, at.Step, at.Done)
	rate := float64(at.Done) / max(elapsed.Seconds(), 0.001)
	if at.Total == 0 || rate == 0 {
		return fmt.Sprintf("%s, %.0f/s", step, rate)
	}
	done := min(float64(at.Done)/float64(at.Total), 1)
	full := int(done * barWidth)
	left := time.Duration(float64(max(at.Total-at.Done, 0)) / rate * float64(time.Second))
	return fmt.Sprintf("[%s%s] %s of %d (%.0f %%), %.0f/s, %s left", strings.Repeat("#", full), strings.Repeat(".", barWidth-full),
		step, at.Total, 100*done, rate, left.Round(time.Second))
}
