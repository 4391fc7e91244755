package request

import (
	"context"
	"errors"
	"time"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
)

const (
	// askAtOnce is how many requests the table is asked about at once.
	askAtOnce = 1000
	// askTimeout bounds that.
	askTimeout = 5 * time.Second
)

// ask asks the table about those that are due.
func (w *Waits) ask(ctx context.Context) error {
	for {
		page := w.take()
		if len(page) == 0 {
			return nil
		}
		err := w.settle(ctx, page)
		if errors.Is(err, eventlog.ErrDetached) && len(page) > 1 {
			// Retention took an event away meanwhile: that is for one to be told.
			for i := range page {
				if err = w.settle(ctx, page[i:i+1]); err != nil {
					break
				}
			}
		}
		if err != nil {
			w.putBack(page)
			return err
		}
	}
}

// take takes some that are due.
func (w *Waits) take() []*wait {
	w.mu.Lock()
	defer w.mu.Unlock()
	var page []*wait
	for n := range w.due {
		delete(w.due, n)
		if page = append(page, n); len(page) == askAtOnce {
			break
		}
	}
	return page
}

// putBack makes those due again that still wait.
func (w *Waits) putBack(page []*wait) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range page {
		if _, there := w.talks[n.key][n]; there && !n.settled {
			w.due[n] = struct{}{}
		}
	}
}

// settle gives those of a page their outcome who have one.
func (w *Waits) settle(ctx context.Context, page []*wait) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	places := make([]eventlog.Place, len(page))
	for i, n := range page {
		places[i] = eventlog.Place{Position: n.position, ID: n.id}
	}
	answers, err := w.log.Answers(ctx, places)
	if err != nil {
		return err
	}
	known := w.seen(page)
	var unknown []int64
	for i, n := range page {
		if answer := answers[n.position]; answer.Position > 0 {
			for _, place := range [...]eventlog.Place{places[i], answer} {
				if known[place] == nil {
					unknown = append(unknown, place.Position)
				}
			}
		}
	}
	if len(unknown) > 0 {
		read, err := w.log.Events(ctx, "", unknown)
		if errors.Is(err, eventlog.ErrDetached) && len(page) == 1 {
			w.deliver(page[0], &outcome{})
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range read {
			known[placeOf(e)] = e
		}
	}
	for i, n := range page {
		answer, there := answers[n.position]
		switch {
		case !there:
			w.deliver(n, &outcome{})
		case answer.Position > 0:
			w.deliver(n, &outcome{known[places[i]], known[answer]})
		}
	}
	return nil
}

// seen is what came by for those of a page. A log that has lost its end has another
// event at the same position.
func (w *Waits) seen(page []*wait) map[eventlog.Place]*event.Entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	known := map[eventlog.Place]*event.Entry{}
	for _, n := range page {
		for _, e := range n.seen {
			known[placeOf(e)] = e
		}
	}
	return known
}

func placeOf(e *event.Entry) eventlog.Place {
	return eventlog.Place{Position: e.Cursor.Position, ID: e.ID}
}

func (w *Waits) deliver(n *wait, o *outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !n.settled {
		n.settled = true
		n.result <- o
	}
}
