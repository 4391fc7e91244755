package client

import (
	"context"
	"reflect"
	"slices"
)

// followed is a subscription that the server has agreed to. It outlives
// connections. It changes where messages are read, so that no event that follows an
// agreement moves the cursor before it.
type followed struct {
	Subscription

	stale bool // its state is to come, or has not come whole
}

func follow(list []Subscription) []followed {
	following := make([]followed, len(list))
	for i, s := range list {
		following[i] = followed{s, s.Snapshot != ""}
	}
	return following
}

// Subscribe follows more, from where the client is: what came before is not
// replayed. Run has to run.
func (c *Client) Subscribe(ctx context.Context, more ...Subscription) error {
	if err := c.cfg.takes(more); err != nil {
		return err
	}
	_, err := c.call(ctx, map[string]any{"type": "subscribe", "subscribe": more}, func(message) {
		for _, f := range follow(more) {
			// It is there if the connection broke with the agreement, and was asked again.
			same := func(g followed) bool { return reflect.DeepEqual(f.Subscription, g.Subscription) }
			c.following = append(slices.DeleteFunc(slices.Clone(c.following), same), f)
		}
	})
	return err
}

// Unsubscribe stops following these rooms, or, where there are none, these
// namespaces.
func (c *Client) Unsubscribe(ctx context.Context, less ...Subscription) error {
	_, err := c.call(ctx, map[string]any{"type": "unsubscribe", "unsubscribe": less}, func(answer message) {
		for _, s := range less {
			c.following = slices.DeleteFunc(slices.Clone(c.following), func(f followed) bool { return f.Namespace == s.Namespace })
			// What is left of it the server knows best.
			if rooms := answer.Rooms[s.Namespace]; len(s.Rooms) > 0 && len(rooms) > 0 {
				c.following = append(c.following, followed{Subscription: Subscription{Namespace: s.Namespace, Rooms: rooms}})
			}
		}
	})
	return err
}

// outdate notes that the state has to be asked for, and reports whether some of it
// was not being asked for already. The caller holds mu.
func (c *Client) outdate() bool {
	more := false
	for i, f := range c.following {
		more = more || f.Snapshot != "" && !f.stale
		c.following[i].stale = f.Snapshot != ""
	}
	return more
}

// whole notes that the state of a namespace has come: the first that was asked for.
// The caller holds mu.
func (c *Client) whole(namespace string) {
	i := slices.IndexFunc(c.following, func(f followed) bool { return f.Namespace == namespace && f.stale })
	if i >= 0 {
		c.following[i].stale = false
	}
}
