package eventlog

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

// OutboxChannel is where a transaction that has published says so.
const OutboxChannel = "tailroom_outbox"

const (
	// candidacyPeriod is how often an instance asks for the lead, and how long it
	// waits before it connects again.
	candidacyPeriod = time.Second
	// relaySilence is how long PostgreSQL lets a leader be silent. One that is
	// stopped or cut off keeps its connection otherwise, and the lead with it.
	relaySilence = 5 * time.Second
	// relayStatementTimeout bounds one statement in PostgreSQL, and
	// relayAnswerTimeout how long the answers to a page may take before the line counts as
	// dead.
	relayStatementTimeout = 5 * time.Second
	relayAnswerTimeout    = 30 * time.Second
	relayConnectTimeout   = 5 * time.Second
	// relayMemory ends what a leader believes to know of the outbox. Nobody numbers
	// it anew behind his back, but should somebody: nothing is passed over for ever.
	relayMemory        = 10 * time.Minute
	relayHangUpTimeout = time.Second
)

// RelayConfig is what a Relay needs.
type RelayConfig struct {
	// DSN reaches the database without a pooler, on whose connection the lead
	// would stay behind.
	DSN string
	Log *Log // to compare ids that come again
	// Poll is how often a leader looks at the outbox when nothing is notified;
	// at most a second.
	Poll time.Duration
	// Judge says why an event cannot be in the log, as a code of the protocol and
	// a sentence without data, or returns an empty code. It may change the
	// draft's schema version, and says what it has to do with requests.
	Judge func(*event.Draft) (code, reason string)
	// Tip, Committed and NoPartition are as an Appender's.
	Tip         func() event.Cursor
	Committed   func(last int64)
	NoPartition func()
	Metrics     prometheus.Registerer
}

// Relay moves what was published with SQL from the outbox into the log: its own
// instance's part in it. Of all instances one leads, and the others stand by.
//
// The lead is an advisory lock of a connection, and everything that a leader does
// goes through that connection. So there are never two: the next one gets the
// lock when the backend that held it has ended, with whatever it was doing. An
// instance that is silent for relaySilence loses its connection.
//
// The order of the outbox is kept. A row's number is drawn while its transaction
// runs, so within a transaction and between two that do not overlap the numbers
// are in order, and when a row is visible, so are all that it must come after. A
// page therefore begins at the lowest visible row, whoever leads, and is moved in
// that order.
type Relay struct {
	RelayConfig
	config  *pgx.ConnConfig
	sql     *db.Queries
	metrics *relayMetrics
	memory  time.Duration // how long a leader believes what he knows of the outbox
	said    string        // why there is no connection; for Run alone
}

// NewRelay returns a Relay. Run must be running for anything to be relayed.
func NewRelay(c RelayConfig) (*Relay, error) {
	config, err := pgx.ParseConfig(c.DSN)
	if err != nil {
		return nil, fmt.Errorf("the database URL for the outbox: %w", err)
	}
	config.ConnectTimeout = relayConnectTimeout
	config.RuntimeParams["application_name"] = "tailroom outbox"
	return &Relay{RelayConfig: c, config: config, sql: db.New(), metrics: newRelayMetrics(c.Metrics), memory: relayMemory}, nil
}

// Run relays, or stands by, until ctx ends, and connects again as often as it
// must. When it returns, the lead is given up.
func (r *Relay) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := r.candidacy(ctx)
		if ctx.Err() == nil && err.Error() != r.said { // what fails again and again is said once
			r.said = err.Error()
			slog.WarnContext(ctx, "the outbox's relay has no connection and tries again", "component", "outbox", "error", err)
		}
		sleep(ctx, candidacyPeriod)
	}
	return nil
}

// candidacy is one connection's life: standing by, then leading. Its error is why
// that ended.
func (r *Relay) candidacy(ctx context.Context) error {
	t := &term{Relay: r}
	config := r.config.Copy()
	config.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) { t.hinted = true }
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() { // a dead line must not hold us up
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), relayHangUpTimeout)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	t.conn = conn
	if err := t.prepare(ctx); err != nil {
		return err
	}
	r.said = ""
	for won := false; !won; {
		if won, err = t.elect(ctx); err != nil {
			return err
		}
		if !won && !sleep(ctx, candidacyPeriod) {
			return ctx.Err()
		}
	}
	slog.InfoContext(ctx, "this instance leads the outbox's relay", "component", "outbox")
	r.metrics.leader.Set(1)
	defer func() {
		r.metrics.leader.Set(0)
		r.metrics.look(0, 0)
	}()
	return t.lead(ctx)
}
