package client

import "time"

// Phase is what a Client is doing.
type Phase string

// The phases, in the order of a day. The zero Phase is that of a Client that was
// never run.
const (
	Connecting Phase = "connecting"
	Replaying  Phase = "replaying" // connected; what was missed comes first
	Live       Phase = "live"      // all there was is handled
	Degraded   Phase = "degraded"  // connected, but the log is away; Live follows
	Offline    Phase = "offline"   // Err says why, Retry when the next try is
	Closed     Phase = "closed"    // Run has returned Err
)

// Status is what became of the connection.
type Status struct {
	Phase    Phase
	Instance string              // Replaying: the instance that was reached
	Rooms    map[string][]string // Replaying: what was joined, by namespace
	Cursor   string              // Replaying and Live: where it is
	Reason   string              // Degraded
	Err      error               // Offline and Closed
	Retry    time.Time           // Offline
}

// Status is the present one.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// report sets the status and tells of it. What a connection says that is not the
// present one is no news.
func (c *Client) report(from *conn, s Status) {
	c.reports.Lock()
	defer c.reports.Unlock()
	c.mu.Lock()
	news := from == nil || from == c.conn
	if news {
		c.status = s
	}
	c.mu.Unlock()
	if news && c.cfg.OnStatus != nil {
		c.cfg.OnStatus(s)
	}
}
