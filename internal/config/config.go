package config

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tailroom/tailroom/internal/access"
)

// Config is every setting of the server. Sizes are in bytes.
type Config struct {
	Host       string // "" is every interface
	Port       int    // 0 is any free one
	InstanceID string

	AdvertiseURL string // where the other instances reach this one; "" is worked out

	DatabaseURL       Secret
	ListenDatabaseURL Secret // "" is DatabaseURL; see ListenURL
	DatabaseConns     int
	Migrate           bool
	CatalogFile       string // "" is the catalogue built in
	Retention         Retention
	IDWindow          time.Duration

	JWTSecret             Secret
	JWTSecretPrevious     Secret        // accepted as well, while its tokens live
	JWTPublicKeyFile      string        // PEM; "" is none
	JWKSURL               string        // "" is none
	JWKSRefresh           time.Duration // between two loads of it
	JWTIssuer             string        // "" is any
	JWTAudience           string        // "" is any
	Roles                 access.RoleMap
	Origins               access.Origins
	Proxies               access.Proxies
	ClusterSecret         Secret // "" is derived from JWTSecret
	ClusterSecretPrevious Secret // accepted as well

	TLSCertFile string // "" is HTTP without TLS
	TLSKeyFile  string // and this too

	TokenLifetime time.Duration // from iat to exp; 0 is any

	LogLevel  slog.Level
	LogFormat string // "json" or "text"

	WindowBytes     int64 // of recent events, in memory
	MaxEventBytes   int64
	MaxMessageBytes int64
	MaxRooms        int // per session
	MaxNamespaces   int // per session
	Limits          Limits
	SocketIO        SocketIO

	Heartbeat      time.Duration
	WriteTimeout   time.Duration
	HelloTimeout   time.Duration
	HeaderTimeout  time.Duration
	BodyTimeout    time.Duration
	PublishTimeout time.Duration
	DrainTimeout   time.Duration
	OutboxPoll     time.Duration
	PollInterval   time.Duration
}

// SocketIO is how the clients of that library are served.
type SocketIO struct {
	TokenExpiry  string   // "close" or "keep" their connections
	Trailing     []string // namespaces whose events carry their offset as their last argument
	PingInterval time.Duration
	PingTimeout  time.Duration
}

// Need names a setting without a default that a command cannot do without, or
// several of which it needs one.
type Need string

// The needs there are.
const (
	Database Need = "DATABASE_URL"
	Tokens   Need = "JWT_SECRET, JWT_PUBLIC_KEY_FILE, JWKS_URL" //nolint:gosec // names, not secrets
)

// Default returns the settings of an empty environment, with an InstanceID
// made of the host's name and a random suffix.
func Default() Config {
	var c Config
	for _, s := range settings(&c) {
		if s.preset == "" {
			continue
		}
		if err := s.value.set(s.preset); err != nil {
			panic("config: the default of " + s.env + ": " + err.Error())
		}
	}
	host, err := os.Hostname()
	if err != nil || !validInstanceID(host) {
		host = "tailroom"
	}
	c.InstanceID = host + "-" + strings.ToLower(rand.Text()[:6])
	return c
}

// Load reads the settings from flags, where Register has put them, and from
// environ, in the form of os.Environ; of a name that stands there twice the
// last one counts, so that a command can put defaults of its own in front.
// The error names everything that is wrong, and each need that is not given.
func Load(environ []string, flags *pflag.FlagSet, needs ...Need) (Config, error) {
	c := Default()
	env := parseEnviron(environ)
	sources := []source{fromFlags(flags), fromEnviron(env)}
	var errs []error
	givens := map[string]bool{} // the settings that are given, good or bad
	for _, s := range settings(&c) {
		given, err := s.apply(sources)
		givens[s.env] = given
		if err == nil && !given && slices.Contains(needs, Need(s.env)) {
			err = fmt.Errorf("%s is not set: %s", s.env, s.purpose())
		}
		errs = append(errs, err)
	}
	errs = append(errs, refuseNames(env)...)
	errs = append(errs, consistent(c), rotations(givens))
	if slices.Contains(needs, Tokens) {
		errs = append(errs, needKeys(givens))
	}
	return c, errors.Join(errs...)
}

// consistent reports whether the sizes fit into each other.
func consistent(c Config) error {
	switch {
	case c.MaxEventBytes > c.MaxMessageBytes:
		return errors.New("TAILROOM_MAX_EVENT_BYTES is more than TAILROOM_MAX_MESSAGE_BYTES: no message could hold such an event")
	case c.MaxEventBytes > c.WindowBytes:
		return errors.New("TAILROOM_MAX_EVENT_BYTES is more than TAILROOM_WINDOW_BYTES: the window could not hold such an event")
	case c.TLSCertFile != "" && c.TLSKeyFile == "":
		return errors.New("TLS_CERT_FILE is set without TLS_KEY_FILE: TLS needs both, plain HTTP neither")
	case c.TLSCertFile == "" && c.TLSKeyFile != "":
		return errors.New("TLS_KEY_FILE is set without TLS_CERT_FILE: TLS needs both, plain HTTP neither")
	}
	return nil
}

// ListenURL is the database as the LISTEN connection reaches it.
func (c Config) ListenURL() Secret { return cmp.Or(c.ListenDatabaseURL, c.DatabaseURL) }

// LogValue shows the settings that are not empty, secrets hidden.
func (c Config) LogValue() slog.Value {
	var attrs []slog.Attr
	for _, s := range settings(&c) {
		if text := s.value.show(); text != "" {
			attrs = append(attrs, slog.String(strings.ReplaceAll(s.flag(), "-", "_"), text))
		}
	}
	return slog.GroupValue(attrs...)
}
