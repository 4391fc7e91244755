package limit

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/tailroom/tailroom/internal/problem"
)

// Name is a limit as the metric tailroom_limited_total names it.
type Name string

// The limits there are.
const (
	MessageBytes             Name = "message_bytes"
	EventBytes               Name = "event_bytes"
	GroupEvents              Name = "group_events"
	EventRooms               Name = "event_rooms"
	JSONDepth                Name = "json_depth"
	Rooms                    Name = "rooms"
	Namespaces               Name = "namespaces"
	FrameRatePerConnection   Name = "frame_rate_per_connection"
	FrameRatePerCompany      Name = "frame_rate_per_company"
	PublishRatePerConnection Name = "publish_rate_per_connection"
	PublishRatePerCompany    Name = "publish_rate_per_company"
	Flood                    Name = "flood"
	RevocationsPerCompany    Name = "revocations_per_company"
	ConsumersPerCompany      Name = "consumers_per_company"
	SessionsPerCompany       Name = "sessions_per_company"
	SessionsPerAddress       Name = "sessions_per_address"
	Connections              Name = "connections"
	HelloBytes               Name = "hello_bytes"
	HelloTimeout             Name = "hello_timeout"
	HeaderTimeout            Name = "header_timeout"
	BodyTimeout              Name = "body_timeout"
)

var names = []Name{
	MessageBytes, EventBytes, GroupEvents, EventRooms, JSONDepth, Rooms, Namespaces,
	FrameRatePerConnection, FrameRatePerCompany, PublishRatePerConnection, PublishRatePerCompany, Flood,
	RevocationsPerCompany, ConsumersPerCompany, SessionsPerCompany, SessionsPerAddress, Connections,
	HelloBytes, HelloTimeout, HeaderTimeout, BodyTimeout,
}

// sessionRetry is when to ask again for a session that there is no room for.
const sessionRetry = 5 * time.Second

// Config says what the limits are. A rate or number of 0 is no limit.
type Config struct {
	FrameRatePerConnection   int // WebSocket messages and pings in a second
	FrameRatePerCompany      int
	PublishRatePerConnection int // events in a second
	PublishRatePerCompany    int
	SessionsPerCompany       int
	SessionsPerAddress       int
	Metrics                  prometheus.Registerer
}

// Limits are an instance's. They are safe for concurrent use.
type Limits struct {
	config            Config
	hits              map[Name]prometheus.Counter
	frames, publishes *companyRates
	orders            *companyRates
	companies         *seats[string]
	addresses         *seats[netip.Addr]
}

// New returns the Limits of c and registers their figures.
func New(c Config) *Limits {
	vector := promauto.With(c.Metrics).NewCounterVec(prometheus.CounterOpts{
		Name: "tailroom_limited_total", Help: "What a limit has refused, slowed down or ended, by limit.",
	}, []string{"limit"})
	l := &Limits{
		config: c, hits: map[Name]prometheus.Counter{},
		frames: newCompanyRates(c.FrameRatePerCompany), publishes: newCompanyRates(c.PublishRatePerCompany),
		orders:    newCompanyRates(c.PublishRatePerCompany),
		companies: newSeats[string](c.SessionsPerCompany), addresses: newSeats[netip.Addr](c.SessionsPerAddress),
	}
	for _, name := range names {
		l.hits[name] = vector.WithLabelValues(string(name))
	}
	return l
}

// Hit counts that a limit has done its work.
func (l *Limits) Hit(name Name) { l.hits[name].Inc() }

// Publish takes events from what the company may publish in a second. The error,
// of code rate_limited, says when to try again.
func (l *Limits) Publish(company string, events int) error {
	wait := l.publishes.take(company, events)
	if wait == 0 {
		return nil
	}
	l.Hit(PublishRatePerCompany)
	return tooFast(fmt.Sprintf("the company publishes more than %d events a second", l.config.PublishRatePerCompany), wait)
}

// Order takes one order of a company's administrators, which the log tells of as of
// an event: there may be as many in a second as events. The error is of code
// rate_limited. They are counted by themselves, for whoever floods the log with a
// stolen token must not keep out the order that revokes it.
func (l *Limits) Order(company string) error {
	wait := l.orders.take(company, 1)
	if wait == 0 {
		return nil
	}
	l.Hit(PublishRatePerCompany)
	return tooFast(fmt.Sprintf("the company gives more than %d orders a second", l.config.PublishRatePerCompany), wait)
}

// Session counts a session of a company in. The error is of code rate_limited.
// Sessions of every company at once ("") are not counted.
func (l *Limits) Session(company string) (Seat, error) {
	if company == "" {
		return nil, nil
	}
	seat, ok := l.companies.take(company)
	if ok {
		return seat, nil
	}
	l.Hit(SessionsPerCompany)
	return nil, problem.New(problem.RateLimited, fmt.Sprintf("the company has %d sessions on this instance, and may not have more",
		l.config.SessionsPerCompany)).With("limit", l.config.SessionsPerCompany).RetryAfter(sessionRetry)
}

// Address counts a session from an address in: IPv6 addresses count by /64,
// which is what one customer of a network has. The error is of code rate_limited.
func (l *Limits) Address(client netip.Addr) (Seat, error) {
	seat, ok := l.addresses.take(network(client))
	if ok {
		return seat, nil
	}
	l.Hit(SessionsPerAddress)
	return nil, problem.New(problem.RateLimited, fmt.Sprintf("this address has %d sessions on this instance, and may not have more",
		l.config.SessionsPerAddress)).With("limit", l.config.SessionsPerAddress).RetryAfter(sessionRetry)
}

// network is what an address counts as.
func network(client netip.Addr) netip.Addr {
	if client.Is6() {
		return netip.PrefixFrom(client, 64).Masked().Addr()
	}
	return client
}

func tooFast(detail string, wait time.Duration) *problem.Error {
	return problem.New(problem.RateLimited, detail+": this was refused, try again later").RetryAfter(max(wait, time.Millisecond))
}
