package api

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/cluster"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/session"
)

// maxConnections is how many sessions are listed at once.
const maxConnections = 1000

// Connections reads who is connected, at all instances.
type Connections interface {
	Read(ctx context.Context, f cluster.Filter, after cluster.Place, most int) (cluster.Counts, []cluster.Connection, error)
}

// connectionsJSON is the answer of GET /v1/connections.
type connectionsJSON struct {
	Instance         string           `json:"instance"`
	TotalConnections int64            `json:"totalConnections"`
	ByInstance       map[string]int64 `json:"byInstance"`
	ByNamespace      map[string]int64 `json:"byNamespace"`
	ByUserRole       map[string]int64 `json:"byUserRole"`
	ByTransport      map[string]int64 `json:"byTransport"`
	ByRoom           map[string]int64 `json:"byRoom"`
	MoreRooms        bool             `json:"moreRooms,omitempty"`
	Connections      []connectionJSON `json:"connections"`
	More             bool             `json:"more"`
	Next             string           `json:"next,omitempty"`
}

// connectionJSON is a session as operators see it. What is absent does not apply.
type connectionJSON struct {
	Session    string              `json:"session"`
	Connection string              `json:"connection"`
	Instance   string              `json:"instance"`
	CompanyID  string              `json:"companyId"` // "*": every company
	Subject    string              `json:"subject"`
	UserRole   access.Role         `json:"userRole"`
	Transport  string              `json:"transport"`
	Engine     *session.Engine     `json:"engine,omitempty"`
	Address    string              `json:"address"`
	Client     *clientJSON         `json:"client,omitempty"`
	Consumer   string              `json:"consumer,omitempty"`
	Rooms      map[string][]string `json:"rooms"`
	Since      string              `json:"since"`
}

type clientJSON struct {
	Name    string `json:"name,omitempty"`
	Version string `json:"version,omitempty"`
}

// connections answers GET /v1/connections.
func (a *api) connections(w http.ResponseWriter, r *http.Request) error {
	grant, err := a.grant(r)
	if err != nil {
		return err
	}
	if !grant.MayOperate() {
		return problem.New(problem.Forbidden, "only administrators of a whole company, or of all, may see who is connected").
			With("allowed", []access.Role{access.Admin})
	}
	if grant, err = grant.Name(r.URL.Query().Get("companyId")); err != nil {
		return err
	}
	v, size, err := parametersOf(r, maxConnections,
		"after", "companyId", "instance", "limit", "namespace", "room", "subject", "transport", "userRole")
	if err != nil {
		return err
	}
	after, err := placeOf(v.Get("after"))
	if err != nil {
		return err
	}
	f, err := a.filterOf(v, grant.Tenant)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), queryTimeout)
	defer cancel()
	counts, list, err := a.Connections.Read(ctx, f, after, size+1)
	if err != nil {
		slog.WarnContext(ctx, "who is connected could not be read", "component", "api", "error", err)
		return problem.New(problem.Unavailable, "the database could not be read in time").RetryAfter(time.Second)
	}
	return answerJSON(w, http.StatusOK, connectionsOf(a.Health(ctx).Instance, counts, list, size))
}

// connectionsOf is the answer: of the list, the first so many.
func connectionsOf(instance string, c cluster.Counts, list []cluster.Connection, size int) connectionsJSON {
	body := connectionsJSON{
		Instance: instance, TotalConnections: c.Total, ByInstance: c.ByInstance, ByNamespace: c.ByNamespace, ByUserRole: c.ByRole,
		ByTransport: c.ByTransport, ByRoom: c.ByRoom, MoreRooms: c.MoreRooms, More: len(list) > size,
	}
	if body.More {
		list = list[:size]
		last := list[size-1].Place
		body.Next = last.Instance.String() + "/" + strconv.FormatInt(last.Number, 10)
	}
	body.Connections = make([]connectionJSON, len(list))
	for i, s := range list {
		body.Connections[i] = connectionJSON{
			Session: s.Session, Connection: s.Connection, Instance: s.Instance, CompanyID: s.Tenant, Subject: s.Subject, UserRole: s.Role,
			Transport: s.Transport, Engine: s.Engine, Address: s.Address, Consumer: s.Consumer, Rooms: s.Rooms, Since: stamp(s.Since),
		}
		if s.Tenant == "" {
			body.Connections[i].CompanyID = "*"
		}
		if s.Client != "" || s.Version != "" {
			body.Connections[i].Client = &clientJSON{Name: s.Client, Version: s.Version}
		}
	}
	return body
}

// filterOf reads which sessions are meant.
func (a *api) filterOf(v url.Values, tenant string) (f cluster.Filter, err error) {
	f = cluster.Filter{
		Tenant: tenant, Instance: v.Get("instance"), Namespace: v.Get("namespace"), Role: v.Get("userRole"),
		Subject: v.Get("subject"), Transport: v.Get("transport"),
	}
	for _, name := range []string{"instance", "subject"} {
		if text := v.Get(name); !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return f, parameter(name, "nobody has that name: it is not printable")
		}
	}
	if f.Namespace != "" {
		if err := a.Catalog.Known(f.Namespace); err != nil {
			return f, err
		}
	}
	if room := v.Get("room"); room != "" {
		if f.Room, err = event.ParseRoom(room); err != nil {
			return f, problem.New(problem.InvalidRoom, err.Error()).With("allowed", event.RoomForms)
		}
	}
	if f.Role != "" && !slices.Contains(access.Roles, access.Role(f.Role)) {
		return f, parameter("userRole", "there is no such role").With("allowed", access.Roles)
	}
	if f.Transport != "" && !slices.Contains(session.Transports, f.Transport) {
		return f, parameter("transport", "there is no such transport").With("allowed", session.Transports)
	}
	return f, nil
}

// placeOf reads what next of the page before said.
func placeOf(after string) (cluster.Place, error) {
	if after == "" {
		return cluster.Place{}, nil
	}
	instance, text, _ := strings.Cut(after, "/")
	incarnation, err := uuid.Parse(instance)
	number, err2 := strconv.ParseInt(text, 10, 64)
	if err != nil || err2 != nil {
		return cluster.Place{}, parameter("after", "after is what next of the page before says")
	}
	return cluster.Place{Instance: incarnation, Number: number}, nil
}
