package main

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/tailroom/tailroom/client"
)

// lookEvery is how often a printer is asked how it is while it does nothing.
const lookEvery = time.Second

// queue is a printer and what waits for it. A printer that is out of paper holds
// up its own queue and no other.
type queue struct {
	agent   *agent
	printer printer
	more    chan struct{} // of capacity one: there is a new task
	status  string        // that was last reported

	mu    sync.Mutex
	tasks []task
}

// put adds a task. Somebody waits for a test page, so that goes first.
func (q *queue) put(t task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := len(q.tasks)
	if t.test() {
		at = 0
	}
	q.tasks = slices.Insert(q.tasks, at, t)
	select {
	case q.more <- struct{}{}:
	default:
	}
}

func (q *queue) take() (t task, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.tasks) == 0 {
		return task{}, false
	}
	t, q.tasks = q.tasks[0], q.tasks[1:]
	return t, true
}

// giveBack puts a task to the front again, behind the test pages that came
// meanwhile.
func (q *queue) giveBack(t task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := slices.IndexFunc(q.tasks, func(t task) bool { return !t.test() })
	if at < 0 {
		at = len(q.tasks)
	}
	q.tasks = slices.Insert(q.tasks, at, t)
}

// run prints, one task after the other, until ctx ends.
func (q *queue) run(ctx context.Context) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		ended, err := q.next(ctx)
		if err != nil {
			return err
		}
		if ended && ctx.Err() == nil {
			continue
		}
		select {
		case <-q.more:
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// next does the first task, and reports whether that has ended: not if there is
// none, or if the printer cannot print now.
func (q *queue) next(ctx context.Context) (ended bool, err error) {
	trouble := q.printer.trouble()
	if err := q.watch(trouble); err != nil {
		return false, err
	}
	t, ok := q.take()
	if !ok {
		return false, nil
	}
	if t.Outcome == nil {
		o, err := q.do(ctx, &t, trouble)
		if err != nil {
			return false, err
		}
		if o.Status == "" {
			q.giveBack(t)
			return false, nil
		}
		t.Step, t.Outcome = settled, &o
		if err := q.agent.journal.write(entry{ID: t.ID, Step: settled, Outcome: &o}); err != nil {
			return false, err
		}
	}
	if err := q.agent.report(t, *t.Outcome); err != nil {
		return false, err
	}
	return true, q.agent.journal.write(entry{ID: t.ID, Step: reported})
}

// do prints a task, if that should be and can be. Without a Status in the outcome
// it is to be tried again.
func (q *queue) do(ctx context.Context, t *task, trouble string) (outcome, error) {
	switch {
	case t.Step == begun && q.printer.has(t.ID):
		return outcome{Status: printed}, nil // and then the machine stopped
	case t.event.Overdue(time.Now()):
		return outcome{Status: expired, Error: "expired: it was wanted by " + t.event.ReplyBy.Format(time.RFC3339)}, nil
	case t.wrong != "":
		return outcome{Status: failed, Error: "it cannot be read: " + t.wrong}, nil
	case trouble != "" && t.test():
		return outcome{Status: failed, Error: trouble}, nil
	case trouble != "":
		return outcome{}, q.postpone(*t, trouble)
	}
	if err := q.agent.journal.write(entry{ID: t.ID, Step: begun}); err != nil {
		return outcome{}, err
	}
	t.Step = begun
	began := time.Now()
	if err := q.printer.print(t.ID, t.Text); err != nil {
		slog.ErrorContext(ctx, "printing failed", "job", t.ID, "printer_id", t.PrinterID, "error", err)
		return outcome{}, q.postpone(*t, err.Error())
	}
	return outcome{Status: printed, Duration: time.Since(began)}, nil
}

// postpone says that a job has failed for now: once for each reason.
func (q *queue) postpone(t task, reason string) error {
	update := q.agent.update(t, outcome{Status: failed, Error: reason})
	update.ID = client.DeriveID(t.ID, "failed "+reason)
	return q.agent.client.Enqueue(t.event.Reply(update))
}

// watch reports the printer when the agent begins, and when its status changes.
func (q *queue) watch(trouble string) error {
	status, typ, data := "online", "printerStatusUpdate", map[string]any{"message": nil}
	if trouble != "" {
		status, data["message"] = trouble, "the printer says "+trouble
	}
	switch q.status {
	case status:
		return nil
	case "":
		typ, data["name"], data["connection"], data["address"] = "printer:discovered", q.printer.id, "virtual", q.printer.dir
	}
	q.status, data["status"] = status, status
	data["printerId"], data["branchId"] = q.printer.id, q.agent.branch
	slog.Info("printer", "printer_id", q.printer.id, "status", status)
	return q.agent.client.Enqueue(client.Draft{Namespace: "/printing-ws", Type: typ, Data: data})
}
