package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
)

const strong = "0123456789abcdef0123456789abcdef"

// load parses args as a command would and loads.
func load(t *testing.T, environ, args []string, needs ...Need) (Config, error) {
	t.Helper()
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	Register(flags)
	require.NoError(t, flags.Parse(args))
	return Load(environ, flags, needs...)
}

func file(t *testing.T, contents string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte(contents), 0o600))
	return path
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, err := load(t, nil, nil)
	require.NoError(t, err)
	require.Equal(t, 3001, c.Port)
	require.Empty(t, c.Host)
	require.Equal(t, slog.LevelInfo, c.LogLevel)
	require.Equal(t, "json", c.LogFormat)
	require.True(t, c.Migrate)
	require.Equal(t, int64(128<<20), c.WindowBytes)
	require.Equal(t, 25*time.Second, c.Heartbeat)
	require.Equal(t, "web", string(c.Roles.Role("cashier")))
	require.True(t, validInstanceID(c.InstanceID))
	require.NotEqual(t, Default().InstanceID, c.InstanceID)
}

func TestLoadOneSetting(t *testing.T) {
	t.Parallel()
	port := func(c Config) any { return c.Port }
	database := func(c Config) any { return string(c.DatabaseURL) }
	listen := func(c Config) any { return string(c.ListenURL()) }
	for name, test := range map[string]struct {
		environ []string
		args    []string
		get     func(Config) any
		want    any
	}{
		"environment":            {[]string{"PORT=8080"}, nil, port, 8080},
		"flag wins":              {[]string{"PORT=8080"}, []string{"--port=9090"}, port, 9090},
		"empty variable":         {[]string{"PORT="}, nil, port, 3001},
		"empty flag wins":        {[]string{"JWT_ISSUER=x"}, []string{"--jwt-issuer="}, func(c Config) any { return c.JWTIssuer }, ""},
		"the last of two":        {[]string{"LOG_FORMAT=text", "LOG_FORMAT=json"}, nil, func(c Config) any { return c.LogFormat }, "json"},
		"prefix is dropped":      {nil, []string{"--window-bytes", "64MiB"}, func(c Config) any { return c.WindowBytes }, int64(64 << 20)},
		"value with equals sign": {[]string{"ROLE_MAP=owner=admin"}, nil, func(c Config) any { return c.Roles.String() }, "owner=admin"},
		"off":                    {[]string{"TAILROOM_MIGRATE=off"}, nil, func(c Config) any { return c.Migrate }, false},
		"level":                  {[]string{"LOG_LEVEL=warn"}, nil, func(c Config) any { return c.LogLevel }, slog.LevelWarn},
		"origins": {
			[]string{"CORS_ORIGINS=https://b.example, https://A.example"},
			nil,
			func(c Config) any { return c.Origins.String() }, "https://a.example,https://b.example",
		},
		"proxies": {
			[]string{"TRUSTED_PROXIES=10.1.0.0/8, 2001:db8::1"},
			nil,
			func(c Config) any { return c.Proxies.String() }, "10.0.0.0/8,2001:db8::1/128",
		},
		"a limit":          {[]string{"TAILROOM_MAX_SESSIONS_PER_COMPANY=10"}, nil, func(c Config) any { return c.Limits.SessionsPerCompany }, 10},
		"a limit off":      {[]string{"TAILROOM_FRAME_RATE_PER_COMPANY=10"}, []string{"--frame-rate-per-company=off"}, func(c Config) any { return c.Limits.FrameRatePerCompany }, 0},
		"auto":             {nil, nil, func(c Config) any { return c.Limits.Connections }, 0},
		"advertised":       {[]string{"TAILROOM_ADVERTISE_URL=http://[2001:db8::7]:3001"}, nil, func(c Config) any { return c.AdvertiseURL }, "http://[2001:db8::7]:3001"},
		"not advertised":   {nil, nil, func(c Config) any { return c.AdvertiseURL }, ""},
		"body timeout":     {nil, nil, func(c Config) any { return c.BodyTimeout }, 30 * time.Second},
		"listen elsewhere": {[]string{"DATABASE_URL=a", "TAILROOM_LISTEN_DATABASE_URL=b"}, nil, listen, "b"},
		"listen there too": {[]string{"DATABASE_URL=a"}, nil, listen, "a"},
		"secret in a file": {
			[]string{"JWT_SECRET_FILE=" + file(t, strong+"\n")},
			nil,
			func(c Config) any { return string(c.JWTSecret) }, strong,
		},
		"flag over a file":   {[]string{"DATABASE_URL_FILE=" + file(t, "a")}, []string{"--database-url=b"}, database, "b"},
		"file flag over all": {[]string{"DATABASE_URL=a"}, []string{"--database-url-file=" + file(t, "b\r\n")}, database, "b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := load(t, test.environ, test.args)
			require.NoError(t, err)
			require.Equal(t, test.want, test.get(c))
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		environ []string
		args    []string
		want    string
	}{
		"no number":         {[]string{"PORT=http"}, nil, `PORT: "http": want a number from 0 to 65535`},
		"number too large":  {[]string{"PORT=65536"}, nil, `PORT: "65536"`},
		"bad flag":          {[]string{"PORT=1"}, []string{"--port=x"}, `--port: "x"`},
		"time without unit": {[]string{"TAILROOM_HEARTBEAT=25"}, nil, `TAILROOM_HEARTBEAT: "25": want a time with its unit`},
		"time too short":    {[]string{"TAILROOM_HEARTBEAT=1ns"}, nil, "from 10ms to 1h"},
		"size": {
			[]string{"TAILROOM_WINDOW_BYTES=lots"},
			nil,
			`"lots": want a size such as 64MiB, 1GB or 65536, from 64KiB to 1TiB`,
		},
		"level":            {[]string{"LOG_LEVEL=WARNING"}, nil, "want debug, info, warn or error"},
		"format":           {[]string{"LOG_FORMAT=xml"}, nil, "want text or json"},
		"switch":           {[]string{"TAILROOM_MIGRATE=no"}, nil, "want on or off"},
		"instance":         {[]string{"INSTANCE_ID=a b"}, nil, `INSTANCE_ID: "a b": want`},
		"role":             {[]string{"ROLE_MAP=owner=boss"}, nil, `ROLE_MAP: "owner=boss": "owner=boss" has a role that is none of`},
		"origin":           {[]string{"CORS_ORIGINS=https://a.example/"}, nil, `"https://a.example/" is not an origin`},
		"weak secret":      {[]string{"JWT_SECRET=abc"}, nil, "JWT_SECRET: want at least 32 bytes"},
		"weak secret file": {[]string{"JWT_SECRET_FILE=" + file(t, "abc\n")}, nil, "JWT_SECRET_FILE: want at least 32 bytes"},
		"secret twice":     {[]string{"JWT_SECRET=" + strong, "JWT_SECRET_FILE=x"}, nil, "JWT_SECRET and JWT_SECRET_FILE are both set"},
		"no such file":     {nil, []string{"--jwt-secret-file=/does/not/exist"}, "--jwt-secret-file: open /does/not/exist"},
		"empty file":       {[]string{"DATABASE_URL_FILE=" + file(t, "\n")}, nil, "DATABASE_URL_FILE: the file is empty"},
		"no limit": {
			[]string{"TAILROOM_PUBLISH_RATE_PER_COMPANY=0"},
			nil,
			`TAILROOM_PUBLISH_RATE_PER_COMPANY: "0": want off or a number from 1 to 1000000`,
		},
		"no connections":     {[]string{"TAILROOM_MAX_CONNECTIONS=-1"}, nil, `want auto or a number`},
		"advertised path":    {[]string{"TAILROOM_ADVERTISE_URL=http://10.0.0.7:3001/"}, nil, `want a scheme, a host and its port, such as http://10.0.0.7:3001, and nothing`},
		"advertised host":    {[]string{"TAILROOM_ADVERTISE_URL=10.0.0.7:3001"}, nil, `want a scheme, a host and its port`},
		"advertised any":     {nil, []string{"--advertise-url=http://0.0.0.0:3001"}, `want an address of this machine`},
		"proxy by name":      {[]string{"TRUSTED_PROXIES=proxy"}, nil, `"proxy" is neither an address nor a network`},
		"event over message": {[]string{"TAILROOM_MAX_MESSAGE_BYTES=2KB"}, nil, "no message could hold"},
		"TLS without a key":  {[]string{"TLS_CERT_FILE=cert.pem"}, nil, "TLS_CERT_FILE is set without TLS_KEY_FILE"},
		"TLS, a key alone":   {nil, []string{"--tls-key-file=key.pem"}, "TLS_KEY_FILE is set without TLS_CERT_FILE"},
		"event over window":  {[]string{"TAILROOM_WINDOW_BYTES=64KiB"}, nil, "the window could not hold"},
		"misspelt": {
			[]string{"TAILROOM_WINDOW_BYTE=1"},
			nil,
			"TAILROOM_WINDOW_BYTE is no setting: did you mean TAILROOM_WINDOW_BYTES?",
		},
		"needless prefix": {[]string{"TAILROOM_PORT=3001"}, nil, "TAILROOM_PORT is no setting: did you mean PORT?"},
		"unheard of":      {[]string{"TAILROOM_COLOUR=red"}, nil, "TAILROOM_COLOUR is no setting"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, test.environ, test.args)
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "abc")
		})
	}
}

func TestNamesThatAreNotOurs(t *testing.T) {
	t.Parallel()
	_, err := load(t, []string{
		"PATH=/bin", "TAILROOM_URL=http://x", "TAILROOM_TOKEN=x",
		"TAILROOM_SERVICE_HOST=10.0.0.1", "TAILROOM_SERVICE_PORT=80", "TAILROOM_SERVICE_PORT_HTTP=80",
		"TAILROOM_PORT=tcp://10.0.0.1:80", "TAILROOM_PORT_80_TCP=tcp://10.0.0.1:80",
		"TAILROOM_PORT_80_TCP_ADDR=10.0.0.1", "TAILROOM_WEB_PORT_80_TCP_PROTO=tcp",
	}, nil)
	require.NoError(t, err)
}

func TestNeeds(t *testing.T) {
	t.Parallel()
	_, err := load(t, nil, nil, Database, Tokens)
	require.EqualError(t, err, "DATABASE_URL is not set: url of the PostgreSQL database that holds the log\n"+
		"none of JWT_SECRET, JWT_PUBLIC_KEY_FILE and JWKS_URL is set: tokens are verified with a secret, "+
		"with public keys in a file, or with those of an issuer")
	_, err = load(t, []string{"DATABASE_URL=x"}, []string{"--jwt-secret=" + strong}, Database, Tokens)
	require.NoError(t, err)
}

func TestNeedsOfKeys(t *testing.T) {
	t.Parallel()
	const one, cluster = "none of JWT_SECRET, JWT_PUBLIC_KEY_FILE and JWKS_URL is set", "CLUSTER_SECRET is not set: without JWT_SECRET"
	for name, test := range map[string]struct {
		environ []string
		want    string
	}{
		"nothing":             {nil, one},
		"empty":               {[]string{"JWT_SECRET=", "JWKS_URL="}, one},
		"a secret":            {[]string{"JWT_SECRET=" + strong}, ""},
		"a secret in a file":  {[]string{"JWT_SECRET_FILE=" + file(t, strong)}, ""},
		"a key file":          {[]string{"JWT_PUBLIC_KEY_FILE=keys.pem"}, cluster},
		"a key set":           {[]string{"JWKS_URL=https://issuer.example/jwks"}, cluster},
		"a key file, shared":  {[]string{"JWT_PUBLIC_KEY_FILE=keys.pem", "CLUSTER_SECRET_FILE=" + file(t, strong)}, ""},
		"a key set, shared":   {[]string{"JWKS_URL=https://issuer.example/jwks", "CLUSTER_SECRET=" + strong}, ""},
		"all":                 {[]string{"JWT_SECRET=" + strong, "JWT_PUBLIC_KEY_FILE=keys.pem", "JWKS_URL=http://localhost/jwks"}, ""},
		"a key set in clear":  {[]string{"JWKS_URL=http://issuer.example/jwks", "CLUSTER_SECRET=" + strong}, "JWKS_URL: \"http://issuer.example/jwks\": want https"},
		"weak":                {[]string{"JWT_SECRET=" + strong, "CLUSTER_SECRET=short"}, "CLUSTER_SECRET: want at least 32 bytes"},
		"weak ones of before": {[]string{"JWT_SECRET=" + strong, "TAILROOM_JWT_SECRET_PREVIOUS=short"}, "TAILROOM_JWT_SECRET_PREVIOUS: want at least 32 bytes"},
		"only before":         {[]string{"JWKS_URL=https://a.example", "CLUSTER_SECRET=" + strong, "TAILROOM_JWT_SECRET_PREVIOUS=" + strong}, "TAILROOM_JWT_SECRET_PREVIOUS is set without JWT_SECRET"},
		"only the cluster's":  {[]string{"JWT_SECRET=" + strong, "TAILROOM_CLUSTER_SECRET_PREVIOUS=" + strong}, "TAILROOM_CLUSTER_SECRET_PREVIOUS is set without CLUSTER_SECRET"},
		"both generations": {[]string{
			"JWT_SECRET=" + strong, "TAILROOM_JWT_SECRET_PREVIOUS_FILE=" + file(t, strong),
			"CLUSTER_SECRET=" + strong, "TAILROOM_CLUSTER_SECRET_PREVIOUS_FILE=" + file(t, strong),
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, test.environ, nil, Tokens)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.want)
			require.Len(t, strings.Split(err.Error(), "\n"), 1)
			require.NotContains(t, err.Error(), "short")
		})
	}
}

func TestClusterOfASecretOrTheTokens(t *testing.T) {
	t.Parallel()
	const older = "ffffffffffffffffffffffffffffffff"
	keys := func(environ ...string) [][]byte {
		c, err := load(t, environ, nil, Tokens)
		require.NoError(t, err)
		return c.Cluster().Keys(access.Tickets)
	}
	derived := keys("JWT_SECRET=" + strong)
	require.Len(t, derived, 1)
	require.Equal(t, derived[0], keys("JWT_SECRET="+older, "TAILROOM_JWT_SECRET_PREVIOUS="+strong)[1])
	own := keys("JWT_SECRET="+strong, "CLUSTER_SECRET="+strong)
	require.Len(t, own, 1)
	require.NotEqual(t, derived, own)
	require.Equal(t, own[0], keys("JWKS_URL=https://a.example", "CLUSTER_SECRET="+older, "TAILROOM_CLUSTER_SECRET_PREVIOUS="+strong)[1])
}

func TestAllErrorsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := load(t, []string{"PORT=x", "JWT_SECRET=short", "TAILROOM_X=1", "JWKS_URL=y"}, []string{"--heartbeat=z"}, Database, Tokens)
	require.Error(t, err)
	require.Len(t, strings.Split(err.Error(), "\n"), 6)
}

func TestCommandsRegisteringNoFlags(t *testing.T) {
	t.Parallel()
	c, err := Load([]string{"DATABASE_URL=x"}, pflag.NewFlagSet("verify", pflag.ContinueOnError), Database)
	require.NoError(t, err)
	require.Equal(t, Secret("x"), c.DatabaseURL)
}

func TestSecretsNeverPrint(t *testing.T) {
	t.Parallel()
	c, err := load(t, []string{"JWT_SECRET=" + strong, "DATABASE_URL=postgres://u:" + strong + "@h/d"}, nil)
	require.NoError(t, err)
	var out strings.Builder
	slog.New(slog.NewTextHandler(&out, nil)).Info("starting", "config", c, "alone", c.JWTSecret)
	fmt.Fprintf(&out, "%v %+v %#v %s %q %x", c, c, c, c.JWTSecret, c.JWTSecret, c.JWTSecret)
	require.NoError(t, json.NewEncoder(&out).Encode(c.JWTSecret))
	require.Contains(t, out.String(), "config.jwt_secret=[secret]")
	require.Contains(t, out.String(), "config.window_bytes=128MiB")
	require.NotContains(t, out.String(), strong)
	require.NotContains(t, out.String(), fmt.Sprintf("%x", strong))
}

// TestTable holds what the rows must have in common: every default can be
// written again as it is shown, and no two flags are the same.
func TestTable(t *testing.T) {
	t.Parallel()
	c := Default()
	seen := map[string]bool{}
	for _, s := range settings(&c) {
		require.False(t, seen[s.flag()], s.env)
		seen[s.flag()] = true
		if s.preset != "" {
			require.Equal(t, s.preset, s.value.show(), s.env)
		}
		require.Equal(t, 2, strings.Count(s.usage, "`"), s.env)
	}
}
