package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// empty sends what is in the outbox, group by group, until ctx ends or OnRefused
// fails.
func (c *Client) empty(ctx context.Context) error {
	for {
		events, err := c.outbox.first()
		if err != nil {
			return err
		}
		if events == nil {
			select {
			case <-c.outbox.changed:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			continue
		}
		err = c.send(ctx, events)
		if err != nil {
			refused, ok := errors.AsType[*Error](err)
			if !ok || ctx.Err() != nil {
				return err
			}
			if err := c.refuse(ctx, events, refused); err != nil {
				return err
			}
		}
		if err := c.outbox.done(); err != nil {
			c.cfg.Logger.WarnContext(ctx, "what was sent may be sent again after a restart", "component", "client", "error", err)
		}
	}
}

// send publishes a group until the server has it or has refused it for good. A fault
// of the server is no refusal.
func (c *Client) send(ctx context.Context, events []json.RawMessage) error {
	for n := 0; ; n++ {
		_, err := c.call(ctx, map[string]any{"type": "publish", "events": events}, nil)
		if !errors.Is(err, &Error{Code: "internal"}) {
			return err
		}
		wait := pause(n)
		c.cfg.Logger.WarnContext(ctx, "the server failed at what the outbox sent", "component", "client", "error", err, "retry_in", wait)
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// refuse hands over what the server does not want.
func (c *Client) refuse(ctx context.Context, events []json.RawMessage, why *Error) error {
	r := Refusal{Events: make([]Draft, len(events)), Err: why}
	for i, e := range events {
		d := struct {
			*Draft

			Data json.RawMessage `json:"data"` // not Draft's any: numbers stay what they are
		}{Draft: &r.Events[i]}
		if err := json.Unmarshal(e, &d); err != nil {
			return fmt.Errorf("the outbox: %w", err)
		}
		d.Draft.Data = d.Data
	}
	return c.cfg.OnRefused(ctx, r)
}
