package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/tailroom/tailroom/client"
)

type kitchen struct {
	client *client.Client
	within time.Duration
}

// order is what the kitchen wants to know of a newOrder. Ids are passed on as they
// came, text or integer.
type order struct {
	OrderID  json.RawMessage `json:"orderId"`
	BranchID json.RawMessage `json:"branchId"`
	Note     string          `json:"note"`
	Lines    []line          `json:"lines"`
}

type line struct {
	Name      string `json:"name"`
	Quantity  int    `json:"quantity"`
	Note      string `json:"note"`
	Modifiers []line `json:"modifiers"`
}

// handle publishes the job of an order. When it returns nil the job is in the log,
// and the order is behind the kitchen's cursor. If the kitchen is killed in
// between, the order comes again; its job has the same id, and is not published
// again.
func (k *kitchen) handle(ctx context.Context, e client.Event) error {
	if e.Type != "newOrder" {
		return nil
	}
	job, err := k.job(e)
	if err != nil {
		slog.ErrorContext(ctx, "an order cannot be printed", "order", e.ID, "stream", e.Stream, "error", err)
		return nil
	}
	_, err = k.client.Publish(ctx, job)
	var no *client.Error
	switch {
	case errors.Is(err, client.ErrVersionConflict):
		return nil // it was published so long ago that the server has forgotten the id
	case errors.As(err, &no):
		slog.ErrorContext(ctx, "an order cannot be printed", "order", e.ID, "stream", e.Stream, "error", err)
		return nil // it must not hold up the others
	case err != nil:
		return err
	}
	slog.InfoContext(ctx, "a job is queued", "order", e.ID, "stream", e.Stream, "job", job.ID)
	return nil
}

// job is the print job of an order: always the same of the same event, its id
// included.
func (k *kitchen) job(e client.Event) (client.Draft, error) {
	var o order
	if err := json.Unmarshal(e.Data, &o); err != nil {
		return client.Draft{}, err
	}
	branch := strings.Trim(string(o.BranchID), `"`)
	if branch == "" {
		return client.Draft{}, errors.New("it names no branch")
	}
	id := client.DeriveID(e.ID, "print job")
	return e.Cause(client.Draft{
		ID: id, Namespace: "/printing-ws", Type: "printJobUpdate", CorrelationID: e.CorrelationID,
		ExpectedVersion: new(int64(0)), // the job does not exist yet
		ReplyBy:         e.RecordedAt.Add(k.within),
		Data: map[string]any{
			"jobId": id, "orderId": o.OrderID, "branchId": o.BranchID, "printerId": "kitchen-" + branch,
			"status": "queued", "text": o.ticket(),
		},
	}), nil
}

// ticket is what the cook reads.
func (o order) ticket() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Order %s\n", strings.Trim(string(o.OrderID), `"`))
	for _, l := range o.Lines {
		fmt.Fprintf(&b, "%3d x %s\n", l.Quantity, l.Name)
		for _, m := range l.Modifiers {
			fmt.Fprintf(&b, "      + %s\n", m.Name)
		}
		if l.Note != "" {
			fmt.Fprintf(&b, "      ! %s\n", l.Note)
		}
	}
	if o.Note != "" {
		fmt.Fprintf(&b, "! %s\n", o.Note)
	}
	return b.String()
}
