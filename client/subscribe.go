package client

import (
	"context"
	"slices"
)

// Subscribe follows more, from where the client is: what came before is not
// replayed. Run has to run.
func (c *Client) Subscribe(ctx context.Context, more ...Subscription) error {
	if _, err := c.call(ctx, map[string]any{"type": "subscribe", "subscribe": more}); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.following = append(slices.Clone(c.following), more...)
	return nil
}

// Unsubscribe stops following these rooms, or, where there are none, these
// namespaces.
func (c *Client) Unsubscribe(ctx context.Context, less ...Subscription) error {
	answer, err := c.call(ctx, map[string]any{"type": "unsubscribe", "unsubscribe": less})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range less {
		c.following = slices.DeleteFunc(slices.Clone(c.following), func(f Subscription) bool { return f.Namespace == s.Namespace })
		// What is left of it the server knows best.
		if rooms := answer.Rooms[s.Namespace]; len(s.Rooms) > 0 && len(rooms) > 0 {
			c.following = append(c.following, Subscription{Namespace: s.Namespace, Rooms: rooms})
		}
	}
	return nil
}
