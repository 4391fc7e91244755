package certificate

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest/certtest"
)

// figure is a metric's present value.
func figure(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	require.Fail(t, "there is no such figure", name)
	return 0
}

// Whatever stands in the files, the newest good certificate is in use.
func TestKeeper_Looks(t *testing.T) {
	t.Parallel()
	authority := certtest.NewAuthority(t)
	dir := t.TempDir()
	registry := prometheus.NewRegistry()
	c := Config{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"), Metrics: NewMetrics(registry)}
	now := time.Now()
	cert, key := authority.Sign(t, now.Add(time.Hour), "first.example")
	next, nextKey := authority.Sign(t, now.Add(2*time.Hour), "second.example")
	old, oldKey := authority.Sign(t, now.Add(-time.Minute), "old.example")
	write := func(cert, key []byte) {
		t.Helper()
		require.NoError(t, os.WriteFile(c.CertFile, cert, 0o600))
		require.NoError(t, os.WriteFile(c.KeyFile, key, 0o600))
	}
	write(cert, key)
	k, err := New(c)
	require.NoError(t, err)
	failures := 0
	check := func(name string, until time.Duration, failed bool) {
		t.Helper()
		k.look(t.Context(), now)
		if failed {
			failures++
		}
		shown, err := k.Server().GetCertificate(nil)
		require.NoError(t, err)
		require.Equal(t, []string{name}, shown.Leaf.DNSNames)
		require.InDelta(t, failures, figure(t, registry, "tailroom_tls_reload_failures_total"), 0)
		require.InDelta(t, now.Add(until).Unix(), figure(t, registry, "tailroom_tls_certificate_expiry_timestamp_seconds"), 0)
	}
	check("first.example", time.Hour, false)
	write(next, key)
	check("first.example", time.Hour, true)
	check("first.example", time.Hour, true)
	write(next, nextKey)
	check("second.example", 2*time.Hour, false)
	write([]byte("no certificate"), nextKey)
	check("second.example", 2*time.Hour, true)
	write(old, oldKey)
	check("second.example", 2*time.Hour, true)
	require.NoError(t, os.Remove(c.CertFile))
	check("second.example", 2*time.Hour, true)
	write(cert, key)
	check("first.example", time.Hour, false)
	require.InDelta(t, 2, figure(t, registry, "tailroom_tls_reloads_total"), 0)
}

func TestNew_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	authority := certtest.NewAuthority(t)
	dir := t.TempDir()
	cert, key := authority.Sign(t, time.Now().Add(time.Hour), "a.example")
	_, otherKey := authority.Sign(t, time.Now().Add(time.Hour), "a.example")
	old, oldKey := authority.Sign(t, time.Now().Add(-time.Hour), "a.example")
	for name, test := range map[string]struct {
		cert, key []byte
		says      string
	}{
		"another's key":   {cert, otherKey, "want a certificate and its key"},
		"exchanged":       {key, cert, "want a certificate and its key"},
		"no PEM":          {[]byte("x"), key, "want a certificate and its key"},
		"expired":         {old, oldKey, "expired at"},
		"no certificate":  {nil, key, "TLS_CERT_FILE: open "},
		"no key":          {cert, nil, "TLS_KEY_FILE: open "},
		"an empty secret": {cert, []byte{}, "want a certificate and its key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := Config{
				CertFile: filepath.Join(dir, name+".crt"), KeyFile: filepath.Join(dir, name+".key"),
				Metrics: NewMetrics(prometheus.NewRegistry()),
			}
			for file, content := range map[string][]byte{c.CertFile: test.cert, c.KeyFile: test.key} {
				if content != nil {
					require.NoError(t, os.WriteFile(file, content, 0o600))
				}
			}
			_, err := New(c)
			require.ErrorContains(t, err, test.says)
			require.NotContains(t, err.Error(), "PRIVATE")
		})
	}
}
