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
		_, err = c.call(ctx, map[string]any{"type": "publish", "events": events}, nil)
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
