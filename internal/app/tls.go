package app

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailroom/tailroom/internal/certificate"
)

// openTLS prepares the server to show the certificate, if there is one.
func (a *App) openTLS(registry *prometheus.Registry) (err error) {
	metrics := certificate.NewMetrics(registry)
	if a.config.TLSCertFile == "" {
		return nil
	}
	a.shown, err = certificate.New(certificate.Config{
		CertFile: a.config.TLSCertFile, KeyFile: a.config.TLSKeyFile, Metrics: metrics,
	})
	if err != nil {
		return err
	}
	a.server.TLSConfig = a.shown.Server()
	return nil
}

func (a *App) scheme() string {
	if a.shown != nil {
		return "https"
	}
	return "http"
}

// serve answers on the listener until the server is shut down.
func (a *App) serve() error {
	if a.shown != nil {
		return a.server.ServeTLS(a.listener, "", "") // the certificate is the configuration's
	}
	return a.server.Serve(a.listener)
}
