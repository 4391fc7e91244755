package eventlog

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// clock tells the database's time as far as it can be known: not later than it
// really is. Its zero value knows nothing. It is for one goroutine.
type clock struct {
	conn *pgx.Conn // whose server's time it is
	read time.Time // what that clock showed
	at   time.Time // when the answer came, on ours
}

// set remembers what conn's server has just said.
func (c *clock) set(conn *pgx.Conn, read time.Time) {
	*c = clock{conn: conn, read: read, at: time.Now()}
}

// forget makes the next translate ask again.
func (c *clock) forget() { *c = clock{} }

// translate returns a time by the clock of conn's server which is over there when
// t is over here. It asks once on each connection.
func (c *clock) translate(ctx context.Context, conn *pgx.Conn, t time.Time) (time.Time, error) {
	if c.conn != conn {
		var read time.Time
		if err := conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&read); err != nil {
			return time.Time{}, fmt.Errorf("reading the database's clock: %w", err)
		}
		c.set(conn, read)
	}
	// The server showed read before at, so at t it shows this or later.
	return c.read.Add(t.Sub(c.at)), nil
}
