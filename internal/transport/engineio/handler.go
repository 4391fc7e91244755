package engineio

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/problem"
)

// version is what this package speaks of Engine.IO, as requests say it.
const version = "4"

// The transports, as requests name them.
const (
	polling   = "polling"
	webSocket = "websocket"
)

// refusal is an answer of Engine.IO to a request that it cannot serve. Clients compare
// its bytes.
type refusal struct {
	Status  int    `json:"-"`
	Code    int    `json:"code"`
	Message string `json:"message"`
}

var (
	transportUnknown   = refusal{http.StatusBadRequest, 0, "Transport unknown"}
	sidUnknown         = refusal{http.StatusBadRequest, 1, "Session ID unknown"}
	badHandshakeMethod = refusal{http.StatusBadRequest, 2, "Bad handshake method"}
	badRequest         = refusal{http.StatusBadRequest, 3, "Bad request"}
	tooLarge           = refusal{http.StatusRequestEntityTooLarge, 3, "Payload larger than maxPayload"}
	foreignOrigin      = refusal{http.StatusForbidden, 4, access.Foreign}
	longHeader         = refusal{http.StatusRequestHeaderFieldsTooLarge, 3, "Authorization longer than 8192 bytes"}
	unsupportedVersion = refusal{http.StatusBadRequest, 5, "Unsupported protocol version"}
)

// refusals are the codes' names as metrics have them.
var refusals = []string{"transport_unknown", "sid_unknown", "bad_method", "bad_request", "forbidden", "unsupported_version"}

// refuse answers with a refusal.
func (s *Server) refuse(w http.ResponseWriter, f refusal) {
	s.metrics.refused.WithLabelValues(refusals[f.Code]).Inc()
	body, err := json.Marshal(f)
	if err != nil {
		panic("engineio: unencodable refusal: " + err.Error()) // a number and a text
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(f.Status)
	_, _ = w.Write(body) //nolint:gosec,nolintlint // JSON, and typed as such; who is gone is told nothing
}

// refuseAs answers with the refusal that a problem is: forbidden, for a while or for good.
func (s *Server) refuseAs(w http.ResponseWriter, err error) {
	p := problem.From(err)
	p.SetRetry(w.Header())
	s.refuse(w, refusal{p.Status(), foreignOrigin.Code, p.Detail})
}

// refuseOrigin tells a page, and the operator, that it is not listed.
func (s *Server) refuseOrigin(w http.ResponseWriter, r *http.Request) {
	const most = 200 // bytes of an origin that are logged
	origin := r.Header.Get("Origin")
	if s.foreign.Allow() { // anybody may send some, and fill the log
		slog.WarnContext(r.Context(), "a page was refused whose origin CORS_ORIGINS does not list", "component", "engineio",
			"origin", strings.ToValidUTF8(origin[:min(len(origin), most)], "?"), "remote", s.Client(r).String())
	}
	s.refuse(w, foreignOrigin)
}

// route answers a request of no page, or of one that may call.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	transport := query.Get("transport")
	upgrade := transport == webSocket && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
	if transport != polling && transport != webSocket {
		s.refuse(w, transportUnknown)
		return
	}
	sid := query.Get("sid")
	if sid == "" {
		s.handshake(w, r, transport, upgrade, query.Get("EIO"))
		return
	}
	c := s.find(sid)
	switch {
	case c == nil:
		s.refuse(w, sidUnknown)
	case upgrade:
		s.upgrade(w, r, c)
	case transport == polling && r.Method == http.MethodGet:
		c.get(w, r)
	case transport == polling && r.Method == http.MethodPost:
		c.post(w, r)
	default:
		s.refuse(w, badRequest)
	}
}

// handshake begins a connection.
func (s *Server) handshake(w http.ResponseWriter, r *http.Request, transport string, upgrade bool, revision string) {
	switch {
	case r.Method != http.MethodGet:
		s.refuse(w, badHandshakeMethod)
		return
	case transport == webSocket && !upgrade:
		s.refuse(w, badRequest)
		return
	case len(strings.Join(r.Header[authorization], "")) > maxAuthorization:
		s.refuse(w, longHeader)
		return
	}
	seat, err := s.Admit(r)
	if err != nil {
		s.refuseAs(w, err)
		return
	}
	if revision != version {
		seat.Leave()
		s.refuse(w, unsupportedVersion)
		return
	}
	c := s.newConn(r, seat, transport)
	if err := s.enter(c); err != nil {
		seat.Leave()
		s.refuseAs(w, err)
		return
	}
	c.start()
	if transport == webSocket {
		s.open(w, r, c)
		return
	}
	c.introduce()
	c.get(w, r)
}
