package client

// SetLimit bounds what may wait for the handler. It is called before Run.
func SetLimit(c *Client, bytes int) { c.queue.limit = bytes }

// Pause is the pause before the n-th try again.
var Pause = pause

// Waiting is how many things wait for the handler.
func Waiting(c *Client) int {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	return len(c.queue.items)
}
