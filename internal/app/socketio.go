package app

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/catalog"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/peer"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/publish"
	"github.com/tailroom/tailroom/internal/request"
	"github.com/tailroom/tailroom/internal/session"
	"github.com/tailroom/tailroom/internal/transport/engineio"
	"github.com/tailroom/tailroom/internal/transport/socketio"
)

const (
	// joinTimeout is how long a Socket.IO connection may have joined no namespace.
	joinTimeout = 45 * time.Second
	// fullRetry and drainRetry are when to try again where there is no room.
	fullRetry  = 5 * time.Second
	drainRetry = time.Second
)

// openSocketIO prepares what answers the clients of Socket.IO.
func (a *App) openSocketIO(types *catalog.Catalog, verify func(string) (access.Grant, error), open session.Opener, rules session.Rules,
	desk *publish.Desk, requests *request.Desk, most int, registry *prometheus.Registry,
) error {
	c := a.config
	for _, namespace := range c.SocketIO.Trailing {
		if err := types.Known(namespace); err != nil {
			return fmt.Errorf("TAILROOM_SOCKETIO_TRAILING: %w", err)
		}
	}
	a.peers = peer.New(peer.Config{
		Self: a.member.Incarnation(), Keys: c.Cluster().Keys(access.Peers), Peers: a.member, Owner: engineio.Owner,
		Client: c.Proxies.Client,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return a.listener.Dial(ctx, network, address)
		},
		Patience:     c.SocketIO.PingInterval + 2*c.SocketIO.PingTimeout, // a pong may come so late
		WriteTimeout: c.WriteTimeout, Metrics: registry,
	})
	a.socketIO = socketio.New(socketio.Config{
		Verify: verify, Log: a.hub, Open: open, Sessions: a.sessions, Rules: rules,
		Publisher: desk, Requester: requests, Consumers: a.consumers,
		Replies: func(namespace, name string) bool {
			t, err := types.Lookup(namespace, name)
			return err == nil && t.Reply != nil && t.Reply.Ack
		},
		Keys: c.Cluster().Keys(access.Recovery), Trailing: c.SocketIO.Trailing, KeepExpired: c.SocketIO.TokenExpiry == "keep",
		Heartbeat: c.Heartbeat, WriteTimeout: c.WriteTimeout, ConnectTimeout: joinTimeout, MaxMessage: c.MaxMessageBytes,
		Limits: rules.Limits, Metrics: registry, Returned: a.peers.Announce,
	})
	a.engine = engineio.New(engineio.Config{
		Owner: a.member.Incarnation(), Origins: c.Origins, Admit: a.admit(rules.Limits), Accept: a.socketIO.Accept,
		Client: a.peers.Client, Passed: a.peers.Passed, Limits: rules.Limits,
		PingInterval: c.SocketIO.PingInterval, PingTimeout: c.SocketIO.PingTimeout, WriteTimeout: c.WriteTimeout,
		BodyTimeout: c.BodyTimeout, MaxPayload: c.MaxMessageBytes, MaxConns: most, Metrics: registry,
	})
	return nil
}

// admit keeps new connections from an instance that is going away or full.
func (a *App) admit(limits *limit.Limits) func(*http.Request) (limit.Seat, error) {
	return func(r *http.Request) (limit.Seat, error) {
		switch {
		case limit.Over(r):
			return nil, problem.New(problem.Overloaded, "this instance has as many connections as it may have").RetryAfter(fullRetry)
		case a.draining.Load():
			return nil, problem.New(problem.Draining, "this instance is going away: connect again to reach another").RetryAfter(drainRetry)
		}
		return limits.Address(a.peers.Client(r))
	}
}
