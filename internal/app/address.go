package app

import (
	"context"
	"net"
)

// URL is where the instance is reached from this machine.
func (a *App) URL() string { return a.at("127.0.0.1") }

// reachedAt is where other instances reach it: as the setting says or, since they have
// the same database, at the address that reaches that. It is this machine's own when
// the database is here.
func (a *App) reachedAt(ctx context.Context) (string, error) {
	if a.config.AdvertiseURL != "" {
		return a.config.AdvertiseURL, nil
	}
	conn, err := a.live.Acquire(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Release()
	local, ok := conn.Conn().PgConn().Conn().LocalAddr().(*net.TCPAddr)
	if !ok || local.Zone != "" { // a Unix socket, or an address of one link
		return a.URL(), nil
	}
	return a.at(local.IP.String()), nil
}

// at is the instance's URL at the address that it listens on or, if that is every one,
// at this one.
func (a *App) at(address string) string {
	host := a.config.Host
	if host == "" || net.ParseIP(host).IsUnspecified() {
		host = address
	}
	_, port, err := net.SplitHostPort(a.listener.Addr().String())
	if err != nil {
		panic("app: a TCP address without a port: " + err.Error())
	}
	return a.scheme() + "://" + net.JoinHostPort(host, port)
}
