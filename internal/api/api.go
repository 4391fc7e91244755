package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzhttp"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/catalog"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/publish"
	"github.com/tailroom/tailroom/internal/request"
	"github.com/tailroom/tailroom/internal/session"
)

// compressAbove is the size of an answer, in bytes, from which it goes
// compressed to who accepts that.
const compressAbove = 10 << 10

// Publisher takes publishes in.
type Publisher interface {
	Submit(grant access.Grant, source any, events []json.RawMessage) (*publish.Pending, error)
}

// History reads the log's past.
type History interface {
	List(ctx context.Context, q eventlog.Query) (*eventlog.Listing, error)
	Get(ctx context.Context, e eventlog.Lookup) (*event.Entry, error)
}

// Requester takes requests in.
type Requester interface {
	Ask(grant access.Grant, present func() access.Grant, source any, raw json.RawMessage) (*request.Asked, error)
}

// Requests reads what has become of requests.
type Requests interface {
	Requests(ctx context.Context, q eventlog.RequestQuery) (list []eventlog.Request, more bool, err error)
	Events(ctx context.Context, tenant string, positions []int64) (map[int64]*event.Entry, error)
	Story(ctx context.Context, tenant, correlationID string, limit int) (list []*event.Entry, more bool, err error)
}

// Config is what an API needs.
type Config struct {
	Verify      func(token string) (access.Grant, error)
	Ticket      func(token string) (ticket string, grant access.Grant, err error)
	Secure      func(*http.Request) bool // whether the client came by TLS
	Catalog     *catalog.Catalog
	Publisher   Publisher
	History     History
	Requester   Requester
	Requests    Requests
	Consumers   Consumers
	Connections Connections
	States      States
	Locator     session.Locator
	Operator    Operator
	Health      func(context.Context) Health
	MaxBody     int64         // bytes of a JSON body, or of one NDJSON line
	BodyTime    time.Duration // for a JSON body, or one NDJSON line, to come
	WriteTime   time.Duration // for each slice of an answer to be taken
	MaxRooms    int           // of a listing
	Limits      *limit.Limits
	Stream      http.Handler // GET /v1/stream
	Socket      http.Handler // GET /v1/ws
	SocketIO    http.Handler // /socket.io/; judges origins itself, by the same rule, for its refusals have a form of their own
	Metrics     http.Handler // GET /metrics
	Middleware  func(http.Handler) http.Handler
}

type api struct{ Config }

// New returns the handler of everything the server answers over HTTP.
func New(c Config) (http.Handler, error) {
	compress, err := gzhttp.NewWrapper(gzhttp.MinSize(compressAbove))
	if err != nil {
		return nil, err
	}
	a := &api{Config: c}
	events, event := compress(a.answer(a.list)), compress(a.answer(a.get))
	types := compress(a.answer(a.catalog))
	requests, story := compress(a.answer(a.listRequests)), compress(a.answer(a.getRequest))
	consumers, receipts := compress(a.answer(a.consumers)), compress(a.answer(a.receipts))
	connections := compress(a.answer(a.connections))
	stream, states := compress(a.answer(a.stream)), compress(a.answer(a.states))
	alive, ready := http.HandlerFunc(a.healthz), http.HandlerFunc(a.readyz)
	routes := map[string]map[string]http.Handler{
		"/v1/events":      {"GET": events, "HEAD": events, "POST": a.answer(a.publish)},
		"/v1/events/{id}": {"GET": event, "HEAD": event},
		"/v1/catalog":     {"GET": types, "HEAD": types},

		"/v1/requests":                 {"GET": requests, "HEAD": requests, "POST": a.answer(a.ask)},
		"/v1/requests/{correlationId}": {"GET": story, "HEAD": story},
		"/v1/consumers":                {"GET": consumers, "HEAD": consumers},
		"/v1/consumers/{name}":         {"DELETE": a.answer(a.eraseConsumer)},
		"/v1/events/{id}/receipts":     {"GET": receipts, "HEAD": receipts},
		"/v1/state":                    {"GET": states, "HEAD": states},
		"/v1/streams/{stream}":         {"GET": stream, "HEAD": stream},

		"/v1/connections":    {"GET": connections, "HEAD": connections},
		"/v1/revocations":    {"POST": a.answer(a.revoke)},
		"/v1/disconnections": {"POST": a.answer(a.disconnect)},

		"/v1/stream":  {"GET": a.ifThereIsRoom(c.Stream)},
		"/v1/ws":      {"GET": a.ifThereIsRoom(c.Socket)},
		"/v1/tickets": {"POST": a.answer(a.issueTicket), "DELETE": http.HandlerFunc(a.dropTicket)},

		"/healthz": {"GET": alive, "HEAD": alive},
		"/readyz":  {"GET": ready, "HEAD": ready},
		"/metrics": {"GET": c.Metrics, "HEAD": c.Metrics},
	}
	mux := http.NewServeMux()
	for path, methods := range routes {
		mux.Handle(path, byMethod(methods))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		problem.New(problem.NotFound, "there is nothing at this path").Write(w)
	})
	return a.bounded(protect(beside(c.SocketIO, c.Middleware(mux)))), nil
}

// beside lets a handler answer everything under /socket.io, and another the rest.
func beside(socketIO, rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if socketIO != nil && (r.URL.Path == "/socket.io" || strings.HasPrefix(r.URL.Path, "/socket.io/")) {
			socketIO.ServeHTTP(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})
}

// byMethod tells who uses the wrong method which are right.
func byMethod(methods map[string]http.Handler) http.Handler {
	allowed := slices.Sorted(maps.Keys(methods))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := methods[r.Method]; h != nil {
			h.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		problem.New(problem.MethodNotAllowed, "this path does not know the method "+r.Method).
			With("allowed", allowed).Write(w)
	})
}

// answer turns a function that may fail into a handler.
func (a *api) answer(fn func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := fn(w, r)
		if err == nil {
			return
		}
		p := problem.From(err)
		if p.Code == problem.Internal && r.Context().Err() == nil {
			slog.ErrorContext(r.Context(), "a request failed", "component", "api",
				"method", r.Method, "path", r.URL.Path, "error", err)
		}
		p.Write(w)
	})
}

// ifThereIsRoom keeps new streams from an instance that is going away or full.
func (a *api) ifThereIsRoom(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if limit.Over(r) {
			problem.New(problem.Overloaded, "this instance has as many connections as it may have").RetryAfter(fullRetry).Write(w)
			return
		}
		if a.Health(r.Context()).Draining {
			problem.New(problem.Draining, "this instance is going away: connect again to reach another").
				RetryAfter(drainRetry).Write(w)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// grant is what the request's token allows.
func (a *api) grant(r *http.Request) (access.Grant, error) {
	token, err := access.BearerToken(r)
	if err != nil {
		return access.Grant{}, err
	}
	return a.Verify(token)
}

// reader is the grant of a request that reads: a platform-wide token names the
// company in the query.
func (a *api) reader(r *http.Request) (access.Grant, error) {
	grant, err := a.grant(r)
	if err != nil {
		return access.Grant{}, err
	}
	return grant.Name(r.URL.Query().Get("companyId"))
}

func (a *api) catalog(w http.ResponseWriter, r *http.Request) error {
	if _, err := a.grant(r); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, a.Catalog.JSON())
	return nil
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec,nolintlint // JSON, and typed as such, which gosec sees only at times; who is gone is told nothing
}
