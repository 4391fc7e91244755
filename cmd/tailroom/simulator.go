package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tailroom/tailroom/internal/simulation"
)

const (
	simulatedCompanies = 3
	simulatedBranches  = 4
	// simulatedTick is how often what is due is published, in one request.
	simulatedTick = 20 * time.Millisecond
)

// simulator is `tailroom simulate` at work.
type simulator struct {
	poster
	simulation.Config

	rate     float64 // events a second
	duration time.Duration
	status   *status

	published, refused int
}

// run publishes until the duration is over or ctx ends, which is no error.
func (s *simulator) run(ctx context.Context) error {
	if s.Seed == 0 {
		s.Seed = uint64(rand.Uint32())
	}
	s.status.printf("Simulating %d companies with %d branches each, %g events a second, --seed %d",
		s.Companies, s.Branches, s.rate, s.Seed)
	service, begin := simulation.New(s.Config), time.Now()
	defer func() { s.status.printf("%s", s.summary(time.Since(begin))) }()
	tick := time.NewTicker(simulatedTick)
	defer tick.Stop()
	told, shown := 0, begin
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		elapsed := time.Since(begin)
		if s.duration > 0 && elapsed > s.duration {
			return nil
		}
		due := min(int(elapsed.Seconds()*s.rate)-told, requestLines)
		if err := s.tell(ctx, service, due); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		told += due
		if time.Since(shown) >= time.Second {
			shown = time.Now()
			s.status.showf("%s", s.summary(elapsed))
		}
	}
}

// tell publishes the next events of the story.
func (s *simulator) tell(ctx context.Context, service *simulation.Service, events int) error {
	lines := make([]line, events)
	for i := range lines {
		text, err := json.Marshal(service.Next(time.Now()))
		if err != nil {
			return err
		}
		lines[i] = line{number: i + 1, json: text}
	}
	if events == 0 {
		return nil
	}
	return s.post(ctx, lines, func(_ line, a answer) {
		if !a.refused() {
			s.published++
			return
		}
		if s.refused++; s.refused == 1 {
			s.status.printf("An event was refused: %s", a.reason())
		}
	})
}

func (s *simulator) summary(elapsed time.Duration) string {
	return fmt.Sprintf("%s: %d events published, %.0f a second, %d refused",
		elapsed.Round(time.Second/10), s.published, float64(s.published)/elapsed.Seconds(), s.refused)
}
