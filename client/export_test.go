package client

// SetLimit bounds what may wait for the handler. It is called before Run.
func SetLimit(c *Client, bytes int) { c.queue.limit = bytes }

// Pause is the pause before the n-th try again.
var Pause = pause
