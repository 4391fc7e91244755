package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/api"
	"github.com/tailroom/tailroom/internal/catalog"
	"github.com/tailroom/tailroom/internal/certificate"
	"github.com/tailroom/tailroom/internal/cluster"
	"github.com/tailroom/tailroom/internal/config"
	"github.com/tailroom/tailroom/internal/consumer"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/fair"
	"github.com/tailroom/tailroom/internal/hub"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/listen"
	"github.com/tailroom/tailroom/internal/maintenance"
	"github.com/tailroom/tailroom/internal/peer"
	"github.com/tailroom/tailroom/internal/publish"
	"github.com/tailroom/tailroom/internal/request"
	"github.com/tailroom/tailroom/internal/revoke"
	"github.com/tailroom/tailroom/internal/session"
	"github.com/tailroom/tailroom/internal/state"
	"github.com/tailroom/tailroom/internal/transport/engineio"
	"github.com/tailroom/tailroom/internal/transport/socketio"
	"github.com/tailroom/tailroom/internal/transport/sse"
	"github.com/tailroom/tailroom/internal/transport/ws"
	"github.com/tailroom/tailroom/migrations"
)

const (
	// pollOnly is how often the log is read when no notifications are heard.
	pollOnly = 100 * time.Millisecond
	// idleTimeout is how long a connection may say nothing between two requests.
	idleTimeout = 2 * time.Minute
	// maxHeader is the size of a request's header, in bytes: a stream names up to
	// a thousand rooms in its query, and each can have 64 characters.
	maxHeader = 128 << 10
)

// App is one instance.
type App struct {
	config   config.Config
	version  string
	listener *limit.Listener
	address  string // at which other instances reach it
	server   *http.Server
	keys     *access.KeySet      // of JWKS_URL, or nil
	shown    *certificate.Keeper // nil without TLS

	live, queries, appends *pgxpool.Pool
	log                    *eventlog.Log // on live
	member                 *cluster.Member
	consumers              *consumer.Desk
	connections            *cluster.Connections
	history                *eventlog.Log // on queries
	appender               *eventlog.Appender
	keeper                 *maintenance.Keeper
	relay                  *eventlog.Relay
	projection             *state.Projection
	states                 *state.Reader
	hub                    *hub.Hub
	notifications          *listen.Listener
	revoked                *revoke.Watch
	waits                  *request.Waits
	sessions               *session.Registry
	sockets                *ws.Handler
	engine                 *engineio.Server // under Socket.IO
	peers                  *peer.Switch     // before it
	socketIO               *socketio.Server
	draining               atomic.Bool
}

// Build makes an instance that is ready to Run. The logger is slog's default.
func Build(ctx context.Context, c config.Config, version string) (_ *App, err error) {
	a := &App{config: c, version: version}
	defer func() {
		if err != nil {
			a.release()
		}
	}()
	types := catalog.Default()
	if c.CatalogFile != "" {
		if types, err = catalog.Load(c.CatalogFile); err != nil {
			return nil, err
		}
	}
	// Not through a pooler, on whose connection the lock would stay behind.
	migrate := migrations.Check
	if c.Migrate {
		migrate = migrations.Up
	}
	if err := migrate(ctx, string(c.ListenURL())); err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := a.openLog(ctx, types, registry); err != nil {
		return nil, err
	}
	if err := a.openOutbox(ctx, types, registry); err != nil {
		return nil, err
	}
	if a.member, err = cluster.Join(ctx, a.live, c.InstanceID, registry); err != nil {
		return nil, err
	}
	a.consumers = consumer.New(a.live, a.member.Incarnation(), registry)
	a.connections = cluster.NewConnections(a.live, a.member.Incarnation(), a.sessions.ReviewAll)
	a.sessions.Watch = a.connections.Watch
	if err := a.openHTTP(ctx, types, registry); err != nil {
		return nil, err
	}
	return a, nil
}

// openLog connects what reads and writes the log.
func (a *App) openLog(ctx context.Context, types *catalog.Catalog, registry *prometheus.Registry) (err error) {
	c := a.config
	// History has connections of its own: slow queries must not hold up what is
	// live.
	if a.live, err = newPool(ctx, string(c.DatabaseURL), "live", liveConns, readTimeout); err != nil {
		return err
	}
	if a.queries, err = newPool(ctx, string(c.DatabaseURL), "query", c.DatabaseConns, readTimeout); err != nil {
		return err
	}
	if a.appends, err = newPool(ctx, string(c.DatabaseURL), "append", 1, appendTimeout); err != nil {
		return err
	}
	a.log, a.history = eventlog.New(a.live), eventlog.NewShared(a.queries)
	if err := eventlog.MakePartitions(ctx, a.live); err != nil {
		return fmt.Errorf("the database is not usable: %w", err)
	}
	a.sessions = session.NewRegistry(registry)
	if a.revoked, err = revoke.New(ctx, a.log, a.sessions.ExpelRevoked, registry); err != nil {
		return err
	}
	a.sessions.Revoked = a.revoked.Covers
	a.waits = request.NewWaits(a.log, registry)
	a.hub, err = hub.New(ctx, hub.Config{
		Log: a.log, WindowBytes: int(c.WindowBytes), PollEvery: a.pollEvery, System: a.hear, Seen: a.waits.Seen,
		Metrics: hub.NewMetrics(registry),
	})
	if err != nil {
		return err
	}
	a.keeper, err = maintenance.New(ctx, maintenance.Config{
		DSN: string(c.ListenURL()), IDWindow: c.IDWindow, Metrics: registry,
		Keep: maintenance.Policy{MaxAge: c.Retention.Age, MaxBytes: c.Retention.Size}, TokenLifetime: c.TokenLifetime,
		RaiseFloor: state.Closes(types.Closes).RaiseFloor,
	})
	if err != nil {
		return err
	}
	a.projection, err = state.NewProjection(state.ProjectionConfig{DSN: string(c.ListenURL()), Closes: types.Closes, Metrics: registry})
	if err != nil {
		return err
	}
	a.states = state.NewReader(state.Config{Pool: a.queries, Turn: a.history.Turn, Closes: types.Closes})
	// What this instance commits it need not be notified of.
	a.appender = eventlog.NewAppender(eventlog.AppenderConfig{
		Log: a.log, Pool: a.appends, Timeout: c.PublishTimeout, Tip: a.hub.Tip, Committed: a.grown,
		NoPartition: a.keeper.Wake, Metrics: eventlog.NewAppendMetrics(registry),
	})
	a.notifications, err = listen.New(string(c.ListenURL()), a.grown, registry)
	return err
}

// grown is called when the log may have grown to a position, or may be another one.
func (a *App) grown(last int64) {
	a.hub.Wake(last)
	a.projection.Wake()
}

// openOutbox prepares what publishes with SQL: the database learns the catalogue.
func (a *App) openOutbox(ctx context.Context, types *catalog.Catalog, registry *prometheus.Registry) error {
	c := a.config
	mirror, err := types.Mirror()
	if err != nil {
		return err
	}
	if err := a.log.MirrorCatalogue(ctx, mirror, c.MaxEventBytes); err != nil {
		return err
	}
	a.relay, err = eventlog.NewRelay(eventlog.RelayConfig{
		DSN: string(c.ListenURL()), Log: a.log, Poll: c.OutboxPoll, Judge: publish.Judge(types), Tip: a.hub.Tip,
		Committed: a.grown, NoPartition: a.keeper.Wake, Metrics: registry,
	})
	return err
}

// openHTTP binds the port and places everything that answers on it.
func (a *App) openHTTP(ctx context.Context, types *catalog.Catalog, registry *prometheus.Registry) (err error) {
	c := a.config
	var public []access.PublicKey
	if c.JWTPublicKeyFile != "" {
		if public, err = access.LoadPublicKeys(c.JWTPublicKeyFile); err != nil {
			return err
		}
	}
	a.keys = access.NewKeySet(access.KeySetConfig{URL: c.JWKSURL, Every: c.JWKSRefresh, Metrics: registry})
	verifier := access.NewVerifier(access.VerifierConfig{
		Secrets: c.KeySecrets(), Public: public, KeySet: a.keys, Tickets: c.Cluster().Keys(access.Tickets),
		Issuer: c.JWTIssuer, Audience: c.JWTAudience, Roles: c.Roles, Lifetime: c.TokenLifetime, Revoked: a.revoked.Refuses,
	})
	limits := newLimits(c, registry)
	desk := publish.NewDesk(types, a.appender, int(c.MaxEventBytes), limits, a.revoked.Covers, registry)
	requests := request.NewDesk(a.waits, desk)
	open := func(topics []event.Topic, wake chan<- struct{}) session.Feed { return a.hub.NewReader(topics, wake) }
	rules := session.Rules{Known: types.Known, MaxRooms: c.MaxRooms, MaxNamespaces: c.MaxNamespaces, Limits: limits}
	a.sockets = ws.New(ws.Config{
		Instance: a.member.Name, Verify: verifier.Verify, Log: a.hub, Open: open, States: a.states, Sessions: a.sessions, Rules: rules,
		Publisher: desk, Requester: requests, Consumers: a.consumers,
		Heartbeat: c.Heartbeat, WriteTimeout: c.WriteTimeout, HelloTimeout: c.HelloTimeout,
		BodyTimeout: c.BodyTimeout, MaxMessage: c.MaxMessageBytes, Limits: limits, Client: c.Proxies.Client, Metrics: registry,
	})
	stream := sse.New(sse.Config{
		Authenticate: verifier.StreamGrant, Log: a.hub, Open: open, Sessions: a.sessions, Rules: rules, Namespaces: types.Namespaces(),
		Heartbeat: c.Heartbeat, WriteTimeout: c.WriteTimeout, Limits: limits, Client: c.Proxies.Client, Metrics: registry,
	})
	most, err := mostConnections(ctx, c)
	if err != nil {
		return err
	}
	if err := a.openSocketIO(types, verifier.Verify, open, rules, desk, requests, most, registry); err != nil {
		return err
	}
	handler, err := api.New(api.Config{
		Verify: verifier.Verify, Ticket: verifier.Ticket, Secure: c.Proxies.Secure,
		Catalog: types, Publisher: desk, History: a.history, Locator: a.hub,
		Requester: requests, Requests: a.history, Consumers: consumer.NewReader(a.history), States: a.states,
		Connections: cluster.NewListing(a.queries, a.history.Turn, a.connections),
		Operator:    operator{App: a, turns: fair.NewGate(orderPlaces, orderShare)},
		Health:      a.health, MaxBody: c.MaxMessageBytes, BodyTime: c.BodyTimeout, WriteTime: c.WriteTimeout,
		MaxRooms: c.MaxRooms, Limits: limits, Stream: stream,
		Socket: a.sockets, SocketIO: a.peers.Handler(a.engine, a.socketIO.Supersede),
		Metrics:    promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
		Middleware: c.Origins.Middleware,
	})
	if err != nil {
		return err
	}
	// The time to write is for what the server answers by itself; the handler bounds its
	// own. An HTTP/2 connection that takes nothing goes when its streams have gone.
	a.server = &http.Server{
		Handler: handler, ReadHeaderTimeout: c.HeaderTimeout, MaxHeaderBytes: maxHeader, IdleTimeout: idleTimeout,
		WriteTimeout: c.WriteTimeout, HTTP2: &http.HTTP2Config{WriteByteTimeout: 2 * c.WriteTimeout},
		DisableGeneralOptionsHandler: true,
		ConnState:                    limits.ConnState, ConnContext: limits.ConnContext,
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	if err := a.openTLS(registry); err != nil {
		return err
	}
	if a.listener, err = listenOn(ctx, c, limits, most); err != nil {
		return err
	}
	if a.address, err = a.reachedAt(ctx); err != nil {
		return err
	}
	return a.member.Advertise(ctx, a.address)
}

// Run serves until ctx ends or something cannot go on, then drains. It returns
// nil after a shutdown that was asked for.
func (a *App) Run(ctx context.Context) error {
	defer a.release()
	slog.InfoContext(ctx, "serving", "component", "app", "url", a.URL(), "advertised", a.address,
		"version", a.version, "settings", a.config)
	// What serves lives on after ctx, until the sessions have left.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	g, life := errgroup.WithContext(life)
	g.Go(func() error { return a.hub.Run(life) })
	g.Go(func() error { return a.notifications.Run(life) })
	g.Go(func() error { return a.appender.Run(life) })
	g.Go(func() error { return a.keeper.Run(life) })
	g.Go(func() error { return a.member.Run(life) })
	g.Go(func() error { return a.consumers.Run(life) })
	g.Go(func() error { return a.connections.Run(life) })
	if a.keys != nil {
		g.Go(func() error { return a.keys.Run(life) })
	}
	g.Go(func() error { return a.revoked.Run(life) })
	g.Go(func() error { return a.waits.Run(life) })
	g.Go(func() error { return a.peers.Run(life) })
	// They are the first to go: another instance leads while this one drains.
	relaying, resign := context.WithCancel(life)
	defer resign()
	g.Go(func() error { return a.relay.Run(relaying) })
	g.Go(func() error { return a.projection.Run(relaying) })
	g.Go(func() error {
		if err := a.serve(); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serving HTTP: %w", err)
		}
		return nil
	})
	if a.shown != nil {
		g.Go(func() error { return a.shown.Run(life) })
	}
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-life.Done():
		}
		resign()
		a.drain(context.WithoutCancel(ctx))
		end()
		return nil
	})
	err := g.Wait()
	slog.InfoContext(ctx, "stopped", "component", "app")
	return err
}

// drain sends every session away and finishes every request within the budget.
func (a *App) drain(ctx context.Context) {
	budget := a.config.DrainTimeout
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	a.draining.Store(true)
	a.waits.Drain()
	slog.InfoContext(ctx, "draining", "component", "app", "sessions", a.sessions.Count(), "budget", budget)
	var passedOn sync.WaitGroup
	passedOn.Go(func() { a.peers.Drain(ctx, budget*2/3) })
	if left := a.sessions.Drain(ctx, budget*2/3); left > 0 {
		slog.WarnContext(ctx, "sessions are cut that did not leave in time", "component", "app", "sessions", left)
	}
	passedOn.Wait()
	a.peers.Close(ctx)
	a.engine.Close(ctx)
	if err := a.server.Shutdown(ctx); err != nil {
		slog.WarnContext(ctx, "requests are cut that did not end in time", "component", "app", "error", err)
		_ = a.server.Close()
	}
	a.sockets.Close(ctx)
	a.socketIO.Close(ctx)
}

// release gives back what Build took.
func (a *App) release() {
	if a.listener != nil {
		_ = a.listener.Close() // Serve has closed it, or never had it
	}
	if a.member != nil {
		a.member.Leave(context.Background())
	}
	for _, pool := range []*pgxpool.Pool{a.appends, a.queries, a.live} {
		if pool != nil {
			pool.Close()
		}
	}
}

// pollEvery is how long silence is trusted.
func (a *App) pollEvery() time.Duration {
	if a.notifications != nil && a.notifications.State() == listen.Listening {
		return a.config.PollInterval
	}
	return min(pollOnly, a.config.PollInterval)
}

func (a *App) health(context.Context) api.Health {
	h := api.Health{
		Instance: a.member.Name(), Version: a.version, Notifications: a.notifications.State().String(),
		Log: a.hub.Degraded(), Position: a.hub.Tip().Position, Sessions: a.sessions.Count(), Draining: a.draining.Load(),
	}
	if h.Log == "" {
		h.Log = "ok"
	}
	return h
}
