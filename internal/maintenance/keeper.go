package maintenance

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailroom/tailroom/db"
)

const (
	// passPeriod is how often a pass is made. A partition lasts minutes at the
	// highest rate that was measured.
	passPeriod = 20 * time.Second
	// passTimeout bounds a pass.
	passTimeout = 15 * time.Second
	// beatPeriod is how often a leader shows that it lives, and the others ask
	// for the lead.
	beatPeriod = 2 * time.Second
	// idleTimeout is how long PostgreSQL lets a leader be silent. One that is
	// stopped or cut off keeps its connection otherwise, and the lead with it.
	idleTimeout = 10 * time.Second
	// calmPeriod is the least time between two passes that appends ask for.
	calmPeriod = time.Second

	connectTimeout = 5 * time.Second
)

// Config is what a Keeper needs.
type Config struct {
	// DSN reaches the database without a pooler, on whose connection the lock
	// would stay behind.
	DSN string
	// IDWindow is how long ids are known at least, so that a retry is noticed.
	IDWindow time.Duration
	// Keep says what retention keeps. Its zero value is everything.
	Keep Policy
	// TokenLifetime is how long a token lives at most, so that revocations of it can
	// be forgotten. 0 is for ever.
	TokenLifetime time.Duration
	// RaiseFloor raises the log's floor to a position when all is kept that has to
	// be of what lies at and below it. On an error the floor is where it was.
	RaiseFloor func(ctx context.Context, conn *pgx.Conn, floor int64) error
	Metrics    prometheus.Registerer
}

// Keeper maintains the log. Run must be running for anything to be done.
type Keeper struct {
	config   *pgx.ConnConfig
	idWindow time.Duration
	keep     Policy
	raise    func(ctx context.Context, conn *pgx.Conn, floor int64) error
	lifetime time.Duration // of tokens
	period   time.Duration // of passes and sweeps
	sql      *db.Queries
	metrics  *metrics
	urgent   chan struct{}

	said         string // why there is no connection; for Run alone
	few, alarmed bool   // partitions are wanted, and that was logged; for the pass alone
	elders       elders // for the sweep alone
}

// New returns a Keeper. With a policy it connects to see that the database's role
// may do what retention needs; the error says what to grant otherwise.
func New(ctx context.Context, c Config) (*Keeper, error) {
	config, err := pgx.ParseConfig(c.DSN)
	if err != nil {
		return nil, fmt.Errorf("the database URL for maintenance: %w", err)
	}
	config.ConnectTimeout = connectTimeout
	k := &Keeper{
		config: config, idWindow: c.IDWindow, keep: c.Keep, raise: c.RaiseFloor, lifetime: c.TokenLifetime, period: passPeriod,
		sql: db.New(), metrics: newMetrics(c.Metrics), urgent: make(chan struct{}, 1),
	}
	if c.Keep != (Policy{}) {
		if err := k.mayDetach(ctx); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// Wake makes a pass come at once, to make a partition where there is none. It
// does not block.
func (k *Keeper) Wake() {
	select {
	case k.urgent <- struct{}{}:
	default:
	}
}

// Run maintains the log until ctx ends, and connects again as often as it must.
func (k *Keeper) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := k.serve(ctx)
		if ctx.Err() == nil && err.Error() != k.said { // what fails again and again is said once
			k.said = err.Error()
			slog.WarnContext(ctx, "maintenance has no connection and tries again", "component", "maintenance", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(beatPeriod):
		}
	}
	return nil
}

// term is the life of one connection, and of the lead if it gets that.
type term struct {
	*Keeper
	conn     *pgx.Conn
	leads    bool
	sweeping sync.WaitGroup
}

// serve maintains the log on one connection. The error is why that has ended.
func (k *Keeper) serve(ctx context.Context) error {
	conn, err := k.connect(ctx, "tailroom maintenance", fmt.Sprintf(
		"SET statement_timeout = '5s'; SET lock_timeout = '5s'; SET idle_session_timeout = %d", idleTimeout.Milliseconds()))
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	k.said = ""
	ctx, cancel := context.WithCancel(ctx)
	t := &term{Keeper: k, conn: conn}
	err = t.run(ctx)
	k.metrics.leader.Set(0)
	k.metrics.lagging.Set(0)
	cancel()
	t.sweeping.Wait()
	return err
}

func (t *term) run(ctx context.Context) error {
	beat, pass := time.NewTicker(beatPeriod), time.NewTicker(t.period)
	defer beat.Stop()
	defer pass.Stop()
	urgent, calm := t.urgent, make(<-chan time.Time)
	for first := true; ; first = false {
		if err := t.beat(ctx); err != nil {
			return err
		}
		if !first {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-beat.C:
				continue
			case <-calm:
				urgent = t.urgent
				continue
			case <-urgent:
				t.few = true
				urgent, calm = nil, time.After(calmPeriod)
			case <-pass.C:
			}
		}
		if err := t.pass(ctx, t.conn, t.leads); err != nil {
			return err
		}
	}
}

// beat asks for the lead, or shows that it is still held.
func (t *term) beat(ctx context.Context) error {
	beatCtx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if t.leads {
		return t.conn.Ping(beatCtx)
	}
	var err error
	if t.leads, err = t.sql.LeadershipTry(beatCtx, t.conn); !t.leads {
		return err
	}
	t.metrics.leader.Set(1)
	slog.InfoContext(ctx, "this instance leads the maintenance", "component", "maintenance")
	t.sweeping.Go(func() { t.keepSweeping(ctx) })
	return t.pass(ctx, t.conn, t.leads)
}

func (k *Keeper) connect(ctx context.Context, name, settings string) (*pgx.Conn, error) {
	config := k.config.Copy()
	config.RuntimeParams["application_name"] = name
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, settings); err != nil {
		hangUp(ctx, conn)
		return nil, err
	}
	return conn, nil
}

// hangUp closes a connection; on a dead line that must not hold us up.
func hangUp(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
