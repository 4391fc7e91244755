// Package certificate holds the certificate that an instance shows its clients,
// and takes up a new one from the same files while it runs.
//
// The files are read every few seconds rather than watched: how they are
// replaced, by a rename, in place, or through the links of a mounted secret,
// does not matter then. What cannot be used, such as a certificate whose key is
// not written yet, changes nothing: the old one is shown on, a warning is
// logged once, and the next look may find both. Connections that are open keep
// what they began with.
package certificate

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// lookEvery is how often the files are read.
const lookEvery = 2 * time.Second

// Config names the files, in PEM.
type Config struct {
	CertFile string // the certificate and what it is signed by, in that order
	KeyFile  string
	Metrics  *Metrics
}

// Metrics are the figures of a Keeper. They are there, as zeros, without one.
type Metrics struct {
	expires prometheus.Gauge
	reloads prometheus.Counter
	failed  prometheus.Counter
}

// NewMetrics registers the figures.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	return &Metrics{
		expires: f.NewGauge(prometheus.GaugeOpts{
			Name: "tailroom_tls_certificate_expiry_timestamp_seconds",
			Help: "When the certificate in use expires, in Unix time; 0 without TLS.",
		}),
		reloads: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_tls_reloads_total", Help: "New certificates taken up from the files.",
		}),
		failed: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_tls_reload_failures_total",
			Help: "Looks at the files that found no certificate to use; it grows for as long as that lasts.",
		}),
	}
}

// Keeper keeps the certificate in use.
type Keeper struct {
	config  Config
	current atomic.Pointer[tls.Certificate]
	read    [sha256.Size]byte // what the files held at the last look
	broken  bool              // and that it could not be used
}

// New reads the files. The error says which is wrong and how.
func New(c Config) (*Keeper, error) {
	k := &Keeper{config: c}
	sum, loaded, err := k.load(time.Now())
	if err != nil {
		return nil, err
	}
	k.read = sum
	k.use(loaded)
	return k, nil
}

// Server is the configuration of a server that shows the certificate: TLS 1.2
// or newer, HTTP/2 or HTTP/1.1.
func (k *Keeper) Server() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.current.Load(), nil },
	}
}

// Run looks at the files until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			k.look(ctx, now)
		}
	}
}

// look takes up what is new in the files.
func (k *Keeper) look(ctx context.Context, now time.Time) {
	before, wasBroken := k.read, k.broken
	sum, loaded, err := k.load(now)
	k.read, k.broken = sum, err != nil
	switch {
	case err != nil:
		k.config.Metrics.failed.Inc()
		if !wasBroken || sum != before {
			slog.WarnContext(ctx, "the new certificate cannot be used: the old one stays in use", "component", "certificate",
				"error", err, "expires", k.current.Load().Leaf.NotAfter.UTC())
		}
	case sum != before || wasBroken:
		k.use(loaded)
		k.config.Metrics.reloads.Inc()
		slog.InfoContext(ctx, "a new certificate is in use", "component", "certificate",
			"expires", loaded.Leaf.NotAfter.UTC(), "names", loaded.Leaf.DNSNames)
	}
}

func (k *Keeper) use(c *tls.Certificate) {
	k.current.Store(c)
	k.config.Metrics.expires.Set(float64(c.Leaf.NotAfter.Unix()))
}

// load reads the files. The sum tells whether they have changed; it is zero if
// they could not be read.
func (k *Keeper) load(now time.Time) (sum [sha256.Size]byte, _ *tls.Certificate, _ error) {
	cert, err := os.ReadFile(k.config.CertFile)
	if err != nil {
		return sum, nil, fmt.Errorf("TLS_CERT_FILE: %w", err)
	}
	key, err := os.ReadFile(k.config.KeyFile)
	if err != nil {
		return sum, nil, fmt.Errorf("TLS_KEY_FILE: %w", err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d\n", len(cert))
	h.Write(cert)
	h.Write(key)
	h.Sum(sum[:0])
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil { // its errors name no contents
		return sum, nil, fmt.Errorf("TLS_CERT_FILE and TLS_KEY_FILE: want a certificate and its key, in PEM: %w", err)
	}
	if now.After(pair.Leaf.NotAfter) {
		return sum, nil, errors.New("TLS_CERT_FILE: the certificate expired at " + pair.Leaf.NotAfter.UTC().Format(time.RFC3339) +
			": no client would accept it")
	}
	return sum, &pair, nil
}
