package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

// defaultPage is how many rows, or positions, one statement reads: some
// milliseconds and a megabyte or two.
const defaultPage = 5_000

// settings are the session's. They are made by SET, because poolers refuse them
// at the start. Plans are made for the values at hand, so that partitions are
// pruned, and follow indexes: to sort, hash or scan a whole table takes memory,
// or longer than a page should.
const settings = `SET default_transaction_read_only = on; SET statement_timeout = '2min'; SET lock_timeout = '1min';
SET plan_cache_mode = force_custom_plan; SET max_parallel_workers_per_gather = 0; SET jit = off; SET work_mem = '4MB';
SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_sort = off;
SET enable_material = off; SET enable_memoize = off`

// Config says how to verify.
type Config struct {
	// Window is how long ids are known at least, as the instances have it.
	Window time.Duration
	// Progress is told after every page, by Run's goroutine. Nil is nobody.
	Progress func(Progress)

	pageRows int
}

// Progress says how far a step has come.
type Progress struct {
	Step   string // what is being checked
	Number int    // from 1
	Steps  int
	Done   int64
	Total  int64 // 0 as long as it is not known
}

// Run verifies the log of a database. The database's role needs the rights of
// tailroom_owner: nobody else reads the idempotency window. An error means that
// the log could not be verified to the end; what it breaks is in the report.
func Run(ctx context.Context, dsn string, c Config) (*Report, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	config.RuntimeParams["application_name"] = "tailroom verify"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if _, err := conn.Exec(ctx, settings); err != nil {
		return nil, err
	}
	if c.pageRows == 0 {
		c.pageRows = defaultPage
	}
	v := &verifier{Config: c, conn: conn, sql: db.New(), report: newReport()}
	if err := v.access(ctx); err != nil {
		return nil, err
	}
	if err := v.run(ctx); err != nil {
		return nil, fmt.Errorf("checking the %s: %w", v.at.Step, err)
	}
	v.report.finish()
	return v.report, nil
}

// verifier is one run.
type verifier struct {
	Config
	conn   *pgx.Conn
	sql    *db.Queries
	report *Report
	at     Progress

	state    db.VerifyStateRow // at the beginning
	parts    []partition
	epochs   event.Epochs
	window   window
	marks    []mark
	versions int64 // how many events have one
}

func (v *verifier) run(ctx context.Context) error {
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"idempotency window", v.checkWindow},
		{"events", v.checkEvents},
		{"ids", v.checkIDs},
		{"streams", v.checkStreams},
		{"requests", v.checkRequests},
		{"recount", v.recount},
	}
	for i, s := range steps {
		v.at = Progress{Step: s.name, Number: i + 1, Steps: len(steps)}
		v.advance(0)
		if err := s.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// advance tells that n more rows of the step are done.
func (v *verifier) advance(n int) {
	v.at.Done += int64(n)
	if v.Progress != nil {
		v.Progress(v.at)
	}
}

// relations are what is read.
var relations = []string{
	"events", "positions", "epochs", "log", "partitions", "streams", "recent_ids_0", "recent_ids_1", "bounds",
	"requests", "event_types", "redactions",
}

// access is an error unless the log is there and may be read.
func (v *verifier) access(ctx context.Context) error {
	a, err := v.sql.VerifyAccess(ctx, v.conn, relations)
	switch {
	case err != nil:
		return err
	case len(a.Missing) > 0:
		return fmt.Errorf("there is no log in this database, or one of an older version: it lacks tailroom.%s. Run `tailroom migrate up`",
			strings.Join(a.Missing, ", tailroom."))
	case len(a.Forbidden) > 0:
		return fmt.Errorf("the role %s may not read tailroom.%s: to verify the log takes the rights of its owner. "+
			"Let an administrator run `GRANT tailroom_owner TO %s`",
			a.Role, strings.Join(a.Forbidden, ", tailroom."), pgx.Identifier{a.Role}.Sanitize())
	}
	return nil
}

// snapshot runs some statements that must see the same.
func (v *verifier) snapshot(ctx context.Context, do func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, v.conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, do)
}

// gone reports whether PostgreSQL does not have a table any more.
func gone(err error) bool {
	const undefinedTable = "42P01"
	var pg interface{ SQLState() string }
	return errors.As(err, &pg) && pg.SQLState() == undefinedTable
}
