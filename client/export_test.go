package client

// SetLimit bounds what may wait for the handler. It is called before Run.
func SetLimit(c *Client, bytes int) { c.queue.limit = bytes }
