package transporttest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// availability is the namespace of most tests.
var availability = []string{"/availability"}

// liveInCommitOrder has writers on both instances and readers on one, a
// company-wide one and one of a branch.
func liveInCommitOrder(t *testing.T, dial Dialer) {
	t.Helper()
	const perWriter, inGroup, nWriters = 12, 3, 4
	cluster := apptest.Cluster(t, 2)
	service := apptest.Token(t, access.Service, "c1")
	all := apptest.Token(t, access.Web, "c1")
	one := apptest.Token(t, access.Web, "c1", "b1")
	company := live(t, dial, cluster[1], Ask{Token: all, Namespaces: availability})
	branch := live(t, dial, cluster[1], Ask{Token: one, Namespaces: availability})

	written := make(chan []apptest.Receipt, nWriters*perWriter)
	for w := range nWriters {
		go func() {
			for range perWriter {
				written <- cluster[w%2].Publish(t, service, alerts(inGroup, fmt.Sprintf("branch:b%d", w%2), "."))
			}
		}()
	}
	company.hear(t, nWriters*perWriter*inGroup)
	branch.hear(t, nWriters/2*perWriter*inGroup)

	same(t, logged(t, cluster[0], all, "namespace=/availability"), company.heard)
	same(t, logged(t, cluster[0], all, "namespace=/availability&room=branch:b1"), branch.heard)
	for range nWriters * perWriter { // what was acknowledged has been heard, each group in one piece
		group := <-written
		at := slices.IndexFunc(company.heard, func(raw string) bool { return strings.Contains(raw, group[0].ID) })
		for i, receipt := range group {
			require.Contains(t, company.heard[at+i], `{"cursor":"`+receipt.Cursor+`",`)
		}
	}
}

// onlyWhatIsSubscribed subscribes to some rooms of two namespaces of three. An
// event in two of the reader's rooms comes once.
func onlyWhatIsSubscribed(t *testing.T, dial Dialer) {
	t.Helper()
	i := apptest.Cluster(t, 1)[0]
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b1", "b2", "b3")
	ask := Ask{
		Token: token, Namespaces: []string{"/orders", "/availability"}, Rooms: []string{"branch:b1", "branch_b2"},
	}
	r := live(t, dial, i, ask)
	everything := live(t, dial, i, Ask{Token: token, Namespaces: []string{"/orders", "/availability", "/printing-ws"}})
	order := func(id, rooms string) string {
		return `{"namespace":"/orders","type":"newOrder","rooms":[` + rooms + `],"data":{"orderId":"` + id + `"}}`
	}
	i.Publish(t, service, "["+strings.Join([]string{
		order("1", `"branch:b1"`),
		order("2", `"branch:b3"`),
		alert("company:c1", "not a room of the subscription"),
		order("4", `"branch:b2","branch:b1"`),
		order("5", `"branch:b3","branch:b9","branch:b2"`),
		`{"namespace":"/printing-ws","type":"printer:test","rooms":["branch:b1"],"data":{"printerId":"p"}}`,
		alert("branch:b2", "heard"),
		order("8", `"branch:b9"`),
	}, ",")+"]")

	r.hear(t, 4)
	require.Equal(t, []int64{1, 4, 5, 7}, positions(t, sorted(t, r.heard)))
	everything.hear(t, 7)
	require.Equal(t, []int64{1, 2, 3, 4, 5, 6, 7}, positions(t, sorted(t, everything.heard)))
	ask.Cursor = "earliest"
	again := live(t, dial, i, ask)
	same(t, sorted(t, r.heard), sorted(t, again.heard), "the replay is what was heard live")
}

// sameBytes compares what is delivered live with replays out of the window and
// out of the log, with history and with single events.
func sameBytes(t *testing.T, dial Dialer) {
	t.Helper()
	dsn := pgtest.Database(t)
	warm := apptest.Start(t, dsn)
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	ask := Ask{Token: token, Namespaces: availability}
	r := live(t, dial, warm, ask)
	for _, data := range []string{
		`{"message":"x","z":1,"a":[1.50,1e2,-0.0,1e-7,12345678901234567890,0.1000],"A":{"b":null,"":true}}`,
		` { "message" : "white \t space" , "n" : [ 1 , 2 , { } , [ ] ] , "message2" : " a  b " } `,
		`{"message":"\u00e9\u2028\u2029\ud83d\ude00 é😀 \"quotes\" \\ back \/ slash \u0001\u001f\u007f <b>&amp;","k\"e\\y":"\b\f\n\r\t"}`,
		`{"message":"first","message":"the last of equal keys counts","same":1,"same":{"x":[]}}`,
		`{"message":"` + strings.Repeat("large and the same, ", 800) + `"}`,
	} {
		i := warm.Publish(t, service, `{"namespace":"/availability","type":"newAlert","rooms":["branch:b1"],"stream":"a \"b\":\\c😀",
			"correlationId":"cörr \"1\"","causationId":"0192f0c4-0000-7000-8000-000000000001","occurredAt":"2026-01-31T18:30:00.123456789+02:00",
			"replyBy":"2030-01-01T00:00:00Z","data":`+data+`}`)
		require.Len(t, i, 1)
	}
	r.hear(t, 5)

	// A window too small for the large event holds only that one.
	cold := apptest.Start(t, dsn, "TAILROOM_WINDOW_BYTES=64KiB", "TAILROOM_MAX_EVENT_BYTES=64KiB")
	publish(t, cold, service, alerts(100, "branch:b2", strings.Repeat("fills the window ", 40)))
	for name, i := range map[string]*apptest.Instance{"window": warm, "log": cold} {
		replay := listen(t, dial, i, Ask{Token: token, Namespaces: availability, Cursor: "earliest"})
		replay.hear(t, 5)
		same(t, r.heard, replay.heard, name)
	}
	require.Equal(t, r.heard, logged(t, cold, token, ""), "NDJSON")
	page := warm.Get(t, "/v1/events", token)
	require.Equal(t, `{"events":[`+strings.Join(r.heard, ",")+`],"cursor":"1-105","more":false}`, string(page.Body))
	for _, raw := range r.heard {
		var e apptest.Event
		require.NoError(t, json.Unmarshal([]byte(raw), &e))
		one := cold.Get(t, "/v1/events/"+e.ID, token)
		require.Equal(t, http.StatusOK, one.Status)
		require.Equal(t, raw, string(one.Body))
		require.Contains(t, raw, `"occurredAt":"2026-01-31T16:30:00.123456Z"`)
	}
}
