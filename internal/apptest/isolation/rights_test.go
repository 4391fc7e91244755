package isolation_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/catalog"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// The protocol's table of rights, written down once more, cell by cell. Its
// columns are the roles; "forbidden" and "invalid_parameter" are the codes that
// a request is refused with.
var roles = []string{"web", "desktop_app", "service", "analyst", "admin"}

// What the token of each line says, and which company its holder names.
var shapes = map[string]struct {
	company  string
	branches []string // nil is no claim
	named    string
}{
	"company":         {"c1", nil, ""},
	"own-named":       {"c1", nil, "c1"},
	"foreign-named":   {"c1", nil, "c2"},
	"branch":          {"c1", []string{"b1"}, ""},
	"branches":        {"c1", []string{"b1", "b2"}, ""},
	"no-branch":       {"c1", []string{}, ""},
	"platform":        {"*", nil, ""},
	"platform-c1":     {"*", nil, "c1"},
	"platform-c2":     {"*", nil, "c2"},
	"platform-branch": {"*", []string{"b1"}, "c1"},
}

// The events that there are to read, in the order of the log. F and G come
// last, so that whoever heard his last one heard all the others before.
var letters = []struct{ letter, company, rooms string }{
	{"A", "c1", `["branch:b1"]`},
	{"B", "c1", `["branch:b2"]`},
	{"C", "c1", `["branch:b3"]`},
	{"D", "c1", `["branch:b1","branch:b2"]`},
	{"E", "c2", `["branch:b1"]`},
	{"F", "c2", `["company:c2"]`},
	{"G", "c1", `["company:c1"]`},
}

// Which of them each reads.
const reads = `
company          ABCDG      ABCDG      ABCDG              ABCDG      ABCDG
own-named        ABCDG      ABCDG      ABCDG              ABCDG      ABCDG
foreign-named    forbidden  forbidden  forbidden          forbidden  forbidden
branch           ADG        ADG        ADG                ADG        ADG
branches         ABDG       ABDG       ABDG               ABDG       ABDG
no-branch        G          G          G                  G          G
platform         forbidden  forbidden  invalid_parameter  ABCDEFG    ABCDEFG
platform-c1      forbidden  forbidden  ABCDG              ABCDG      ABCDG
platform-c2      forbidden  forbidden  EF                 EF         EF
platform-branch  forbidden  forbidden  ADG                ADG        ADG
`

// Who gets the catalogue, which is of no company, and a ticket, for which no
// company is named.
const believed = `
company          yes  yes  yes  yes  yes
own-named        yes  yes  yes  yes  yes
foreign-named    yes  yes  yes  yes  yes
branch           yes  yes  yes  yes  yes
branches         yes  yes  yes  yes  yes
no-branch        yes  yes  yes  yes  yes
platform         no   no   yes  yes  yes
platform-c1      no   no   yes  yes  yes
platform-c2      no   no   yes  yes  yes
platform-branch  no   no   yes  yes  yes
`

// Who publishes which type.
const publishes = `
printer:test            yes  no   yes  no  yes
printer:test:result     no   yes  yes  no  yes
printer:discovered      no   yes  yes  no  yes
printerStatusUpdate     no   yes  yes  no  yes
printJobUpdate          no   yes  yes  no  yes
newOrder                yes  no   yes  no  yes
orderStatusUpdate       yes  no   yes  no  yes
orderCancelled          yes  no   yes  no  yes
driverUpdate            yes  no   yes  no  yes
availabilityUpdate      yes  no   yes  no  yes
bulkAvailabilityUpdate  yes  no   yes  no  yes
stockAlert              no   no   yes  no  yes
newAlert                no   no   yes  no  yes
`

// Which rooms each may address, by a type that the role publishes. The columns
// are addressed.
const addresses = `
company          yes  yes  yes  yes  no
own-named        yes  yes  yes  yes  no
foreign-named    no   no   no   no   no
branch           yes  yes  no   no   no
branches         yes  yes  yes  no   no
no-branch        yes  no   no   no   no
platform         no   no   no   no   no
platform-c1      yes  yes  yes  yes  no
platform-c2      no   yes  yes  yes  yes
platform-branch  yes  yes  no   no   no
`

var addressed = []string{"company:c1", "branch:b1", "branch_b2", "branch:b3", "company:c2"}

// addressing is a type that each role publishes; none lets an analyst.
var addressing = map[string]string{
	"web": "newOrder", "desktop_app": "printerStatusUpdate", "service": "newAlert", "analyst": "newOrder", "admin": "newAlert",
}

// cells reads a table: the columns of a line by its first word.
func cells(t testing.TB, table string) map[string][]string {
	t.Helper()
	lines := map[string][]string{}
	for line := range strings.Lines(strings.TrimSpace(table)) {
		fields := strings.Fields(line)
		require.Len(t, fields, len(roles)+1, line)
		lines[fields[0]] = fields[1:]
	}
	return lines
}

// holder is who shows a token.
type holder struct {
	shape, role string
	column      int    // of the role
	called      string // what the platform calls the role
	token       string
	named       string // the company it names
}

func (h holder) String() string { return h.shape + "/" + h.role }

// query names the company as readers do.
func (h holder) query() string { return "companyId=" + h.named }

// holders are of every shape and role. A platform calls the roles as names says.
func holders(t testing.TB, names map[string]string) []holder {
	t.Helper()
	var list []holder
	for _, shape := range slices.Sorted(maps.Keys(shapes)) {
		s := shapes[shape]
		for column, role := range roles {
			called := cmp.Or(names[role], role)
			claims := jwt.MapClaims{
				"sub": shape + "-" + role, "exp": time.Now().Add(time.Hour).Unix(), "companyId": s.company, "userRole": called,
			}
			if s.branches != nil {
				claims["branchIds"] = s.branches
			}
			list = append(list, holder{
				shape: shape, role: role, column: column, called: called, named: s.named,
				token: mint(t, jwt.SigningMethodHS256, []byte(apptest.Secret), claims),
			})
		}
	}
	return list
}

// The whole table of rights: every role, every shape of token, every route and
// transport, by the roles' own names and by a platform's.
func TestRights(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		environ []string
		names   map[string]string
	}{
		"our roles": {nil, nil},
		"a platform's roles": {
			[]string{"ROLE_MAP=till=desktop_app,backend=service,bi=analyst,boss=admin,admin=web,*=web"},
			map[string]string{"web": "cashier", "desktop_app": "till", "service": "backend", "analyst": "bi", "admin": "boss"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.Database(t)
			i := apptest.Start(t, dsn, test.environ...)
			list := holders(t, test.names)
			testReading(t, i, dsn, list)
			testConnections(t, i, list)
			testOperating(t, i, list)
			testPublishing(t, i, list)
			testAddressing(t, i, list)
		})
	}
}

func testReading(t *testing.T, i *apptest.Instance, dsn string, list []holder) {
	t.Helper()
	want := cells(t, reads)
	tickets := testTickets(t, i, list)
	sockets, streams, ticketed := map[string]*apptest.Socket{}, map[string]*apptest.Stream{}, map[string]*apptest.Stream{}
	for _, h := range list {
		cell := want[h.shape][h.column]
		ticket, ticketGiven := tickets[h.String()]
		socket := i.Dial(t)
		socket.SendJSON(t, hello(h))
		if first := socket.Next(t); first.Type == "error" {
			require.Equal(t, cell, first.Code, h)
			require.Equal(t, cell, i.Get(t, "/v1/stream?"+h.query(), h.token).Code(), h)
			if ticketGiven {
				require.Equal(t, cell, i.Do(t, http.MethodGet, "/v1/stream?"+h.query(), "", "", "Cookie", ticket).Code(), h)
			}
			continue
		}
		sockets[h.String()], streams[h.String()] = socket, i.Stream(t, h.token, h.query())
		ticketed[h.String()] = i.Stream(t, "", h.query(), "Cookie", ticket)
	}
	ids := publishLetters(t, i, list)
	told := tell(t, i, dsn, list)

	for _, h := range list {
		cell := want[h.shape][h.column]
		listed := i.Get(t, "/v1/events?"+h.query(), h.token)
		if listed.Status != http.StatusOK {
			require.Equal(t, cell, listed.Code(), h)
		} else {
			require.Equal(t, cell, heardOn(t, ids, sockets[h.String()], cell), "WebSocket: %s", h)
			require.Equal(t, cell, heardIn(t, ids, streams[h.String()], cell), "event stream: %s", h)
			require.Equal(t, cell, heardIn(t, ids, ticketed[h.String()], cell), "event stream with a ticket: %s", h)
			require.Equal(t, cell, lettersOf(t, ids, listed.Body), "history: %s", h)
		}
		requireByID(t, i, h, ids, cell)
	}
	testSystem(t, i, list, told)
	// What says nothing of anybody's events asks for no token.
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		require.Equal(t, http.StatusOK, i.Get(t, path, "").Status, path)
	}
}

// publishLetters publishes what there is to read, and returns the letters by the
// events' ids.
func publishLetters(t testing.TB, i *apptest.Instance, list []holder) map[string]string {
	t.Helper()
	ids := map[string]string{}
	for _, l := range letters {
		receipts := i.Publish(t, of(t, l.company, "service", list),
			`{"namespace":"/availability","type":"newAlert","rooms":`+l.rooms+`,"data":{"message":"`+l.letter+`"}}`)
		ids[receipts[0].ID] = l.letter
	}
	return ids
}

// of is the token of somebody who is in no table.
func of(t testing.TB, company, role string, list []holder) string {
	t.Helper()
	return mint(t, jwt.SigningMethodHS256, []byte(apptest.Secret), jwt.MapClaims{
		"sub": "somebody", "exp": time.Now().Add(time.Hour).Unix(), "companyId": company, "userRole": list[slices.Index(roles, role)].called,
	})
}

// requireByID asks for each event by its id. Whoever is to be answered with a
// code when he lists them is to find none.
func requireByID(t testing.TB, i *apptest.Instance, h holder, ids map[string]string, cell string) {
	t.Helper()
	for id, letter := range ids {
		reads := strings.Contains(cell, letter) && cell == strings.ToUpper(cell)
		require.Equal(t, reads, i.Get(t, "/v1/events/"+id+"?"+h.query(), h.token).Status == http.StatusOK, "%s: %s", h, letter)
	}
}

func yes(cell string) bool { return cell == "yes" }

func hello(h holder) map[string]any {
	return map[string]any{"type": "hello", "token": h.token, "companyId": h.named, "subscribe": json.RawMessage(everything)}
}

// heardOn reads a socket up to the last of the letters that are expected.
func heardOn(t testing.TB, ids map[string]string, s *apptest.Socket, want string) (heard string) {
	t.Helper()
	for !strings.HasSuffix(heard, want[len(want)-1:]) {
		for _, e := range s.Next(t).Decoded(t) {
			heard += ids[e.ID]
		}
	}
	return heard
}

// heardIn reads an event stream in the same way.
func heardIn(t testing.TB, ids map[string]string, s *apptest.Stream, want string) (heard string) {
	t.Helper()
	for !strings.HasSuffix(heard, want[len(want)-1:]) {
		block, err := s.Next(t)
		require.NoError(t, err)
		if block.Data != "" && !strings.HasPrefix(block.Event, "tailroom.") {
			var e apptest.Event
			require.NoError(t, json.Unmarshal([]byte(block.Data), &e))
			heard += ids[e.ID]
		}
	}
	return heard
}

func lettersOf(t testing.TB, ids map[string]string, body []byte) (listed string) {
	t.Helper()
	var page struct {
		Events []apptest.Event `json:"events"`
	}
	require.NoError(t, json.Unmarshal(body, &page))
	for _, e := range page.Events {
		listed += ids[e.ID]
	}
	return listed
}

// publication is an event to publish, and the code it is to be refused with; ""
// is none.
type publication struct {
	event map[string]any
	code  string
}

func testPublishing(t *testing.T, i *apptest.Instance, list []holder) {
	t.Helper()
	want := cells(t, publishes)
	for _, h := range list {
		if h.shape != "company" {
			continue
		}
		var all []publication
		for _, namespace := range catalog.Default().All() {
			for _, typ := range namespace.Types {
				cell, ok := want[typ.Name]
				require.True(t, ok, "the table says nothing of %s", typ.Name)
				p := publication{event: map[string]any{"namespace": namespace.Name, "type": typ.Name, "data": typ.Example}}
				if !yes(cell[h.column]) {
					p.code = "forbidden"
				}
				all = append(all, p)
			}
		}
		require.Len(t, all, len(want))
		publishEverywhere(t, i, h, all)
	}
}

func testAddressing(t *testing.T, i *apptest.Instance, list []holder) {
	t.Helper()
	want := cells(t, addresses)
	for _, h := range list {
		var all []publication
		for n, room := range addressed {
			typ := addressing[h.role]
			namespace := map[string]string{"newOrder": "/orders", "printerStatusUpdate": "/printing-ws", "newAlert": "/availability"}[typ]
			entry, err := catalog.Default().Lookup(namespace, typ)
			require.NoError(t, err)
			p := publication{event: map[string]any{
				"namespace": namespace, "type": typ, "data": entry.Example, "rooms": []string{room},
			}}
			platform := strings.HasPrefix(h.shape, "platform")
			switch ours := h.role == "web" || h.role == "desktop_app"; {
			case platform && ours, h.role == "analyst": // there is no such token; he publishes nothing
				p.code = "forbidden"
			case h.shape == "platform": // it must name a company to publish
				p.code = "invalid_parameter"
			case !yes(want[h.shape][n]):
				p.code = "forbidden"
			}
			all = append(all, p)
		}
		publishEverywhere(t, i, h, all)
	}
}

// publishEverywhere publishes each event over each transport.
func publishEverywhere(t testing.TB, i *apptest.Instance, h holder, all []publication) {
	t.Helper()
	want := make([]string, len(all))
	var lines strings.Builder
	for n, p := range all {
		want[n] = p.code
		event := maps.Clone(p.event)
		if h.named != "" {
			event["companyId"] = h.named
		}
		body, err := json.Marshal(event)
		require.NoError(t, err)
		lines.Write(append(body, '\n'))
		require.Equal(t, p.code, i.Post(t, h.token, string(body)).Code(), "POST: %s: %s", h, body)
	}
	require.Equal(t, want, publishLines(t, i, h, len(all), lines.String()), "NDJSON: %s", h)
	require.Equal(t, want, publishOn(t, i, h, all), "WebSocket: %s", h)
}

func publishLines(t testing.TB, i *apptest.Instance, h holder, n int, body string) []string {
	t.Helper()
	answer := i.PostLines(t, h.token, body)
	if answer.Status != http.StatusOK {
		return slices.Repeat([]string{answer.Code()}, n)
	}
	var codes []string
	for line := range strings.Lines(string(answer.Body)) {
		codes = append(codes, apptest.Answer{Body: []byte(line)}.Code())
	}
	return codes
}

func publishOn(t testing.TB, i *apptest.Instance, h holder, all []publication) []string {
	t.Helper()
	s := i.Dial(t)
	defer func() { _ = s.Conn.CloseNow() }()
	first := hello(h)
	first["subscribe"] = json.RawMessage("[]")
	s.SendJSON(t, first)
	if m := s.Next(t); m.Type == "error" {
		return slices.Repeat([]string{m.Code}, len(all))
	}
	codes := make([]string, len(all))
	for n, p := range all {
		s.SendJSON(t, map[string]any{"type": "publish", "ref": n, "events": []any{p.event}})
	}
	for range all {
		m := s.Next(t)
		for m.Type != "reply" {
			m = s.Next(t)
		}
		var n int
		require.NoError(t, json.Unmarshal(m.Ref, &n), fmt.Sprint(string(m.Raw)))
		codes[n] = m.Code
	}
	return codes
}
