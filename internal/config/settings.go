package config

import (
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// prefix is what the names of Tailroom's own variables begin with, and their
// flags do not.
const prefix = "TAILROOM_"

// setting is a row of the table.
type setting struct {
	env    string // its name in the environment
	preset string // the default, as one would write it; "" is none
	usage  string // pflag takes the back-quoted word for the value's name
	value  field
}

// settings is the table, bound to the fields of c.
func settings(c *Config) []setting {
	return []setting{
		{"PORT", "3001", "`port` to listen on; 0 is any free one", number(&c.Port, 0, 65535)},
		{"TAILROOM_HOST", "", "`address` to listen on; none is every interface", text(&c.Host)},
		{"INSTANCE_ID", "", "`name` of this instance (default: the host's and a random suffix)", instanceID(&c.InstanceID)},
		{"TAILROOM_ADVERTISE_URL", "", "`url` at which the other instances reach this one (default: PORT of the address that reaches the database)", advertiseURL(&c.AdvertiseURL)},

		{"DATABASE_URL", "", "`url` of the PostgreSQL database that holds the log", secret(&c.DatabaseURL, anySecret)},
		{"TAILROOM_LISTEN_DATABASE_URL", "", "`url` of it without a pooler, for LISTEN (default: DATABASE_URL)", secret(&c.ListenDatabaseURL, anySecret)},
		{"TAILROOM_DATABASE_CONNS", "8", "`number` of database connections for history, beside the twelve for what is live", number(&c.DatabaseConns, 2, 1000)},
		{"TAILROOM_MIGRATE", "on", "`on|off`: bring the schema up to date at start", onOff(&c.Migrate)},
		{"CATALOG_FILE", "", "YAML `file` of the event types (default: the catalogue built in)", text(&c.CatalogFile)},
		{"RETENTION", "", "`age,size` that the log keeps, such as 90d, 500GB or 90d,500GB (default: everything)", retention(&c.Retention)},
		{"TAILROOM_ID_WINDOW", "24h", "`time` for which the id of an event is known, so that a retry is noticed", age(&c.IDWindow, time.Minute, 30*day)},

		{"JWT_SECRET", "", "`secret` that signs the tokens, of at least 32 bytes", secret(&c.JWTSecret, strongSecret)},
		{"TAILROOM_JWT_SECRET_PREVIOUS", "", "`secret` of before, accepted as well while its tokens live", secret(&c.JWTSecretPrevious, strongSecret)},
		{"JWT_PUBLIC_KEY_FILE", "", "PEM `file` of public keys or certificates that verify the tokens: RSA, EC P-256, Ed25519", text(&c.JWTPublicKeyFile)},
		{"JWKS_URL", "", "`url` of the issuer's public keys, a JWK Set", keySetURL(&c.JWKSURL)},
		{"TAILROOM_JWKS_REFRESH", "5m", "`time` between two looks at JWKS_URL", age(&c.JWKSRefresh, time.Second, day)},
		{"JWT_ISSUER", "", "`issuer` that tokens must have; none is any", text(&c.JWTIssuer)},
		{"JWT_AUDIENCE", "", "`audience` that tokens must have; none is any", text(&c.JWTAudience)},
		{"TAILROOM_TOKEN_LIFETIME", "", "longest `time` from a token's iat to its exp (default: any, and revocations are kept for ever)", age(&c.TokenLifetime, time.Minute, 10*365*day)},
		{"ROLE_MAP", "*=web", "`list` of the platform's roles, such as owner=web,manager=admin,*=web", roleMap(&c.Roles)},
		{"CORS_ORIGINS", "", "`list` of the origins whose pages may call, besides the server's own; * is all", origins(&c.Origins)},
		{"CLUSTER_SECRET", "", "`secret` that the instances share and sign tickets with, of at least 32 bytes (default: derived from JWT_SECRET)", secret(&c.ClusterSecret, strongSecret)},
		{"TAILROOM_CLUSTER_SECRET_PREVIOUS", "", "`secret` of before, accepted as well while its tickets live", secret(&c.ClusterSecretPrevious, strongSecret)},

		{"TLS_CERT_FILE", "", "PEM `file` of the certificate and its chain, for HTTPS; read again when it changes", text(&c.TLSCertFile)},
		{"TLS_KEY_FILE", "", "PEM `file` of the certificate's key", text(&c.TLSKeyFile)},
		{"TRUSTED_PROXIES", "", "`list` of the addresses and networks of proxies whose X-Forwarded-For is believed", proxies(&c.Proxies)},

		{"LOG_LEVEL", "info", "least `level` to log: debug, info, warn or error", logLevel(&c.LogLevel)},
		{"LOG_FORMAT", "json", "`format` of the log: text or json", choice(&c.LogFormat, "text", "json")},

		{"TAILROOM_WINDOW_BYTES", "128MiB", "`size` of the window of recent events in memory", size(&c.WindowBytes, 64<<10, 1<<40)},
		{"TAILROOM_MAX_EVENT_BYTES", "256KiB", "largest `size` of an event's data", size(&c.MaxEventBytes, 1<<10, 16<<20)},
		{"TAILROOM_MAX_MESSAGE_BYTES", "4MiB", "largest `size` of a message or a request's body", size(&c.MaxMessageBytes, 1<<10, 64<<20)},
		{"TAILROOM_MAX_ROOMS", "1000", "largest `number` of rooms that a session or a listing can name", number(&c.MaxRooms, 1, 100_000)},
		{"TAILROOM_MAX_NAMESPACES", "100", "largest `number` of namespaces that a session can follow", number(&c.MaxNamespaces, 1, 10_000)},
		{"TAILROOM_MAX_CONNECTIONS", "auto", "largest `number` of open connections; auto is what the limit of open files allows", numberOr("auto", &c.Limits.Connections)},
		{"TAILROOM_MAX_SESSIONS_PER_COMPANY", off, "largest `number` of sessions of a company, on this instance", numberOr(off, &c.Limits.SessionsPerCompany)},
		{"TAILROOM_MAX_SESSIONS_PER_ADDRESS", off, "largest `number` of sessions from an address, on this instance", numberOr(off, &c.Limits.SessionsPerAddress)},
		{"TAILROOM_FRAME_RATE_PER_CONNECTION", off, "`number` of messages that a WebSocket may send in a second", numberOr(off, &c.Limits.FrameRatePerConnection)},
		{"TAILROOM_FRAME_RATE_PER_COMPANY", off, "`number` of those from all of a company's, on this instance", numberOr(off, &c.Limits.FrameRatePerCompany)},
		{"TAILROOM_PUBLISH_RATE_PER_CONNECTION", off, "`number` of events that a WebSocket may publish in a second", numberOr(off, &c.Limits.PublishRatePerConnection)},
		{"TAILROOM_PUBLISH_RATE_PER_COMPANY", off, "`number` of those by all of a company, on this instance", numberOr(off, &c.Limits.PublishRatePerCompany)},

		{"SOCKETIO_TOKEN_EXPIRY", "close", "`close|keep`: what becomes of a Socket.IO connection whose token expires", choice(&c.SocketIO.TokenExpiry, "close", "keep")},
		{"TAILROOM_SOCKETIO_TRAILING", "", "`list` of namespaces where the offset is the last argument of each Socket.IO event (default: in an event of its own)", namespaces(&c.SocketIO.Trailing)},
		{"TAILROOM_SOCKETIO_PING_INTERVAL", "25s", "`time` between two pings of Engine.IO", duration(&c.SocketIO.PingInterval)},
		{"TAILROOM_SOCKETIO_PING_TIMEOUT", "20s", "`time` in which a ping of Engine.IO must be answered", duration(&c.SocketIO.PingTimeout)},

		{"TAILROOM_HEARTBEAT", "25s", "`time` between heartbeats", duration(&c.Heartbeat)},
		{"TAILROOM_WRITE_TIMEOUT", "20s", "`time` without a byte written after which a connection is cut", duration(&c.WriteTimeout)},
		{"TAILROOM_HELLO_TIMEOUT", "10s", "`time` in which a WebSocket must say hello", duration(&c.HelloTimeout)},
		{"TAILROOM_HEADER_TIMEOUT", "10s", "`time` in which the header of a request must come", duration(&c.HeaderTimeout)},
		{"TAILROOM_BODY_TIMEOUT", "30s", "`time` in which a body, a line of NDJSON or a WebSocket message must come", duration(&c.BodyTimeout)},
		{"TAILROOM_PUBLISH_TIMEOUT", "5s", "`time` a publish waits for the log", duration(&c.PublishTimeout)},
		{"TAILROOM_DRAIN_TIMEOUT", "15s", "`time` connections get to leave at shutdown", duration(&c.DrainTimeout)},
		{"TAILROOM_OUTBOX_POLL", "10ms", "`time` after which the outbox is read though nothing was notified", within(&c.OutboxPoll, time.Millisecond, time.Second)},
		{"TAILROOM_POLL_INTERVAL", "1s", "`time` after which the log is read though nothing was notified", duration(&c.PollInterval)},
	}
}

// flag is the flag's name: --window-bytes of TAILROOM_WINDOW_BYTES.
func (s setting) flag() string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(s.env, prefix), "_", "-"))
}

// purpose is the usage as a sentence of an error.
func (s setting) purpose() string { return strings.ReplaceAll(s.usage, "`", "") }

// Register adds the flag of every setting to flags, in the table's order.
// They take any text: Load judges it, together with the environment's.
func Register(flags *pflag.FlagSet) {
	for _, s := range settings(new(Config)) {
		flags.String(s.flag(), s.preset, s.usage+" ["+s.env+"]")
		if s.value.secret {
			flags.String(s.flag()+"-file", "", "`file` that holds it ["+s.env+fileSuffix+"]")
		}
	}
}
