package app

import (
	"context"
	"log/slog"
	"net"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailroom/tailroom/internal/config"
	"github.com/tailroom/tailroom/internal/limit"
)

// newLimits returns the limits that the settings ask for.
func newLimits(c config.Config, registry *prometheus.Registry) *limit.Limits {
	return limit.New(limit.Config{
		FrameRatePerConnection: c.Limits.FrameRatePerConnection, FrameRatePerCompany: c.Limits.FrameRatePerCompany,
		PublishRatePerConnection: c.Limits.PublishRatePerConnection, PublishRatePerCompany: c.Limits.PublishRatePerCompany,
		SessionsPerCompany: c.Limits.SessionsPerCompany, SessionsPerAddress: c.Limits.SessionsPerAddress,
		Metrics: registry,
	})
}

// mostConnections is how many connections there may be: a setting, or what the limit of
// open files leaves when the database has its own.
func mostConnections(ctx context.Context, c config.Config) (int, error) {
	possible, err := limit.MaxConnections(c.DatabaseConns + otherConns)
	if err != nil {
		return 0, err
	}
	most := c.Limits.Connections
	if most == 0 {
		most = possible
	}
	if most > possible {
		slog.WarnContext(ctx, "TAILROOM_MAX_CONNECTIONS is more than the process may open files for: raise that limit (ulimit -n)",
			"component", "app", "connections", most, "possible", possible)
	}
	return most, nil
}

// listenOn binds the port, for so many connections.
func listenOn(ctx context.Context, c config.Config, limits *limit.Limits, most int) (*limit.Listener, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", net.JoinHostPort(c.Host, strconv.Itoa(c.Port)))
	if err != nil {
		return nil, err
	}
	return limits.Listen(listener.(*net.TCPListener), most, c.Proxies.Trusts), nil //nolint:forcetypeassert // of the network "tcp"
}
