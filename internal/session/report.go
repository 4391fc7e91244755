package session

import (
	"cmp"
	"time"

	"github.com/tailroom/tailroom/internal/access"
)

// Transports are what sessions come over.
var Transports = []string{"websocket", "sse", "socketio"}

// Origin is where the client of a session is. Its texts are printable.
type Origin struct {
	Transport string // one of Transports
	// Connection names the network connection for sessions that share one; "" is one
	// that a session has for itself.
	Connection string
	Address    string
	// Client and Version are what the client calls itself, "" when it does not say.
	Client, Version string
	// Engine is what carries the transport at present, where that can change; else nil.
	Engine func() Engine
}

// Engine is what Socket.IO runs over.
type Engine struct {
	Transport string `json:"transport"` // "polling", "websocket"
	Version   int    `json:"version"`   // of Engine.IO's protocol
}

// Report is what operators see of a session. Its JSON is how instances show it to
// each other.
type Report struct {
	Number     int64               `json:"number"` // the Registry's: of this session and no other
	Session    string              `json:"session"`
	Connection string              `json:"connection"`
	Tenant     string              `json:"tenant"` // "": every company
	Subject    string              `json:"subject"`
	Role       access.Role         `json:"role"`
	Transport  string              `json:"transport"`
	Engine     *Engine             `json:"engine"`
	Address    string              `json:"address"`
	Client     string              `json:"client"`
	Version    string              `json:"version"`
	Consumer   string              `json:"consumer"` // "": it is none
	Rooms      map[string][]string `json:"rooms"`    // of each namespace
	Since      time.Time           `json:"since"`
}

// Report is how the session is at present. Any goroutine may ask, once it runs.
func (s *Session) Report() Report {
	grant := s.Grant()
	report := Report{
		Number: s.number, Session: s.id, Connection: cmp.Or(s.origin.Connection, s.id),
		Tenant: grant.Tenant, Subject: grant.Subject, Role: grant.Role, Transport: s.origin.Transport,
		Address: s.origin.Address, Client: s.origin.Client, Version: s.origin.Version,
		Consumer: s.consumer, Rooms: s.Joined(), Since: s.since,
	}
	if s.origin.Engine != nil {
		engine := s.origin.Engine()
		report.Engine = &engine
	}
	return report
}

// Review tells who watches that something about a session is another, unless it has ended.
func (r *Registry) Review(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, present := r.sessions[s]; present {
		s.changed()
	}
}

// ReviewAll tells who watches of all sessions again.
func (r *Registry) ReviewAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.sessions {
		s.changed()
	}
}

// changed tells who watches. What there is to tell is looked at by him: here it would take
// the stack of every session's goroutine.
func (s *Session) changed() {
	if s.watch != nil {
		s.watch(s.number, s.Report)
	}
}
