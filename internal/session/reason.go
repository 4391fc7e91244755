package session

// Reason is why a session ended: a WebSocket close code and its name. A client
// comes back on 1001, 1006, 1011 to 1013 and 4000 to 4099, and never on 4100
// to 4199.
type Reason struct {
	Code int
	Name string
}

// The reasons of the protocol.
var (
	Gone            = Reason{0, "gone"} // the client left; nothing is to be said
	Draining        = Reason{1001, "draining"}
	TooLarge        = Reason{1009, "too_large"}
	Internal        = Reason{1011, "internal"}
	Overloaded      = Reason{1013, "overloaded"}
	Slow            = Reason{4000, "slow"}
	HeartbeatMissed = Reason{4001, "heartbeat_missed"}
	TokenExpired    = Reason{4002, "token_expired"}
	HelloTimeout    = Reason{4003, "hello_timeout"}
	MessageTimeout  = Reason{4004, "message_timeout"}
	Unauthenticated = Reason{4100, "unauthenticated"}
	TokenRevoked    = Reason{4101, "token_revoked"}
	Forbidden       = Reason{4102, "forbidden"}
	InvalidMessage  = Reason{4103, "invalid_message"}
	Replaced        = Reason{4104, "replaced"}     // by a newer session of the same consumer
	Disconnected    = Reason{4105, "disconnected"} // by an operator
	CursorInvalid   = Reason{4106, "cursor_invalid"}
)

// reasons are those that a session can end with.
var reasons = []Reason{
	Gone, Draining, TooLarge, Internal, Overloaded, Slow, HeartbeatMissed, TokenExpired, MessageTimeout, TokenRevoked,
	InvalidMessage, Replaced, Disconnected,
}

// Error makes a Reason an error, so that a Sink can end its session with one.
func (r Reason) Error() string { return "the session ends: " + r.Name }
