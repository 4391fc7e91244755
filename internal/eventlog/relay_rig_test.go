package eventlog_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
)

// ordersOnly is a catalogue of two types, as the mirror wants it.
const ordersOnly = `[
	{"namespace":"/orders","type":"newOrder","schema_version":3,"description":"","publish":[],
		"rooms":["branch:{data.branchId}"],"stream":"order:{data.orderId}","schema":{}},
	{"namespace":"/orders","type":"note","schema_version":1,"description":"","publish":[],"rooms":[],"stream":null,"schema":{}}]`

// outboxRig is a rig whose database knows a catalogue.
func outboxRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.mirror(t)
	return r
}

// mirror tells the database the catalogue.
func (r *rig) mirror(t *testing.T) {
	t.Helper()
	require.NoError(t, r.log.MirrorCatalogue(t.Context(), []byte(ordersOnly), 1<<18))
}

// relay is a Relay, as one of several instances would have it.
type relay struct {
	stop    func()
	figures *prometheus.Registry
}

// judges is what a relay's judge says, by the "verdict" of the data; "" accepts.
func judges(d *event.Draft) (code, reason string) {
	var data struct{ Verdict string }
	if err := json.Unmarshal(d.Data, &data); err != nil {
		return "invalid_json", err.Error()
	}
	if data.Verdict == "" {
		return "", ""
	}
	return data.Verdict, "the judge says so"
}

// newRelay is one that is not running yet.
func (r *rig) newRelay(t *testing.T, changes ...func(*eventlog.RelayConfig)) (*eventlog.Relay, *prometheus.Registry) {
	t.Helper()
	figures := prometheus.NewRegistry()
	c := eventlog.RelayConfig{
		DSN: r.dsn, Log: r.log, Poll: 10 * time.Millisecond, Judge: judges, Tip: noTip,
		Committed: func(int64) {}, NoPartition: func() {}, Metrics: figures,
	}
	for _, change := range changes {
		change(&c)
	}
	rel, err := eventlog.NewRelay(c)
	require.NoError(t, err)
	return rel, figures
}

func (r *rig) relay(t *testing.T, changes ...func(*eventlog.RelayConfig)) *relay {
	t.Helper()
	rel, figures := r.newRelay(t, changes...)
	return &relay{stop: run(t, rel), figures: figures}
}

// run runs a relay until the test ends, or it is stopped.
func run(t *testing.T, rel *eventlog.Relay) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- rel.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return stop
}

// figure is the value of one of the relay's metrics, that of a code if one is given.
func (r *relay) figure(t *testing.T, name string, code ...string) float64 {
	t.Helper()
	families, err := r.figures.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (len(code) == 0 || m.GetLabel()[0].GetValue() == code[0]) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	require.Fail(t, "no such figure", name)
	return 0
}

// reaches waits until a figure has come to a value. What is done is in the database
// before it is counted.
func (r *relay) reaches(t *testing.T, want float64, name string, code ...string) {
	t.Helper()
	require.Eventually(t, func() bool { return r.figure(t, name, code...) == want }, patience, time.Millisecond, name)
}

// leads waits until the relay is the leader.
func (r *relay) leads(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return r.figure(t, "tailroom_outbox_leader") == 1 }, patience, time.Millisecond)
}

// executor is a pool, a connection or a transaction.
type executor interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// publish publishes a note, and returns its id.
func publish(t *testing.T, tx executor, data string) string {
	t.Helper()
	var id string
	err := tx.QueryRow(t.Context(), "SELECT tailroom.publish('c1', '/orders', 'note', $1, ARRAY['company:c1'])::text", data).Scan(&id)
	require.NoError(t, err)
	return id
}

// begin begins a transaction on a connection of its own, which ends with the test.
func (r *rig) begin(t *testing.T, options ...pgx.TxOptions) pgx.Tx {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), r.dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	tx, err := conn.BeginTx(t.Context(), append(options, pgx.TxOptions{})[0])
	require.NoError(t, err)
	return tx
}

func commit(t *testing.T, tx pgx.Tx) {
	t.Helper()
	require.NoError(t, tx.Commit(t.Context()))
}

// awaitLog waits until the log holds so many events, and returns their data.
func (r *rig) awaitLog(t *testing.T, events int) []string {
	t.Helper()
	r.await(t, "SELECT count(*) >= $1 FROM tailroom.events", events)
	return r.datas(t)
}

// datas is the data of the log.
func (r *rig) datas(t *testing.T) []string {
	t.Helper()
	list := []string{}
	for _, e := range r.all(t) {
		list = append(list, string(e.Data))
	}
	return list
}

// awaitEmpty waits until nothing waits in the outbox.
func (r *rig) awaitEmpty(t *testing.T) {
	t.Helper()
	r.await(t, "SELECT NOT EXISTS (SELECT FROM tailroom.outbox)")
}

// note is the data of the n-th note of a test, as the log prints it.
func note(n int) string { return fmt.Sprintf(`{"n":%d}`, n) }

func notes(from, to int) []string {
	list := []string{}
	for n := from; n <= to; n++ {
		list = append(list, note(n))
	}
	return list
}
