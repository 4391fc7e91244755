package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/client"
)

// agent takes work from the log into its journal, and hands it to the printers.
type agent struct {
	branch  string
	client  *client.Client
	journal *journal
	queues  map[string]*queue // by the printer's id
}

func newAgent(s settings) (_ *agent, err error) {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, err
	}
	a := &agent{branch: s.branch, queues: map[string]*queue{}}
	a.client, err = client.New(client.Config{
		Server:    s.server(),
		Consumer:  s.name,
		Subscribe: []client.Subscription{{Namespace: "/printing-ws"}},
		Handler:   a.handle,
		Outbox:    filepath.Join(s.dir, "outbox"),
		OnRefused: refused,
		OnReset:   missing,
		OnStatus:  connection,
		Name:      "printer-agent",
		Logger:    slog.Default(),
	})
	if err != nil {
		return nil, err
	}
	// The outbox is locked: there is no other agent in this folder.
	if a.journal, err = openJournal(filepath.Join(s.dir, "journal")); err != nil {
		return nil, errors.Join(err, a.client.Close())
	}
	for id := range strings.SplitSeq(s.printers, ",") {
		p, err := newPrinter(id, filepath.Join(s.dir, "printers"))
		if err != nil {
			return nil, errors.Join(err, a.close())
		}
		a.queues[id] = &queue{agent: a, printer: p, more: make(chan struct{}, 1)}
	}
	return a, nil
}

func (a *agent) close() error { return errors.Join(a.client.Close(), a.journal.close()) }

// run works until ctx ends. The page that is being printed is finished.
func (a *agent) run(ctx context.Context) error {
	for _, e := range a.journal.unfinished() {
		if err := a.give(e); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.client.Run(ctx) })
	for _, q := range a.queues {
		g.Go(func() error { return q.run(ctx) })
	}
	return g.Wait()
}

// handle takes an event. When it returns nil, the work is in the journal, and the
// event need not come again.
func (a *agent) handle(_ context.Context, e client.Event) error {
	if t := read(e); !t.work() || a.queues[string(t.PrinterID)] == nil || a.journal.knows(e.ID) {
		return nil // nothing to do, for another agent's printer, or here before
	}
	done := entry{ID: e.ID, Step: accepted, Event: e.Raw}
	if err := a.journal.write(done); err != nil {
		return err
	}
	return a.give(done)
}

// give hands what is in the journal to its printer.
func (a *agent) give(e entry) error {
	var event client.Event
	if err := json.Unmarshal(e.Event, &event); err != nil {
		return err
	}
	t := read(event)
	t.entry = e
	q := a.queues[string(t.PrinterID)]
	if q == nil {
		slog.Warn("there is work for a printer that is not here any more", "printer_id", t.PrinterID, "job", e.ID)
		return nil
	}
	q.put(t)
	return nil
}

// report says what became of a task. It may be said again: the event's id and all
// that is in it follow from the task and the outcome.
func (a *agent) report(t task, o outcome) error {
	slog.Info("a task has ended", "job", t.ID, "type", t.event.Type, "printer_id", t.PrinterID, "status", o.Status, "error", o.Error)
	if t.test() {
		return a.client.Enqueue(t.event.Reply(client.Draft{Type: "printer:test:result", Data: map[string]any{
			"printerId": t.PrinterID, "branchId": a.branch, "success": o.Status == printed,
			"message": o.Error, "durationMs": o.Duration.Milliseconds(),
		}}))
	}
	return a.client.Enqueue(t.event.Reply(a.update(t, o)))
}

// update is what is said of a job.
func (a *agent) update(t task, o outcome) client.Draft {
	data := map[string]any{
		"jobId": t.JobID, "branchId": a.branch, "printerId": t.PrinterID, "status": o.Status, "error": nil,
	}
	if t.OrderID != "" {
		data["orderId"] = t.OrderID
	}
	if o.Error != "" {
		data["error"] = o.Error
	}
	return client.Draft{Type: "printJobUpdate", Data: data}
}

func refused(_ context.Context, r client.Refusal) error {
	slog.Error("the server refused what the agent has to say", "type", r.Events[0].Type, "id", r.Events[0].ID, "error", r.Err)
	return nil
}

func missing(_ context.Context, r client.Reset) error {
	slog.Error("jobs may be missing: the log does not go back to where the agent was", "reason", r.Reason, "resume", r.Resume)
	return nil
}

func connection(s client.Status) {
	slog.Info("connection", "phase", s.Phase, "instance", s.Instance, "cursor", s.Cursor, "error", s.Err)
}
