package transporttest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
)

// bookmarks keep the resume point of a quiet reader near the head of the log.
func bookmarks(t *testing.T, dial Dialer) {
	t.Helper()
	cluster := apptest.Cluster(t, 2, "TAILROOM_HEARTBEAT=1500ms")
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	r := live(t, dial, cluster[0], Ask{Token: token, Namespaces: availability})
	for range 3 {
		publish(t, cluster[1], apptest.Token(t, access.Service, "c2"), alerts(5, "branch:b1", "of another company"))
		publish(t, cluster[0], service, alert("branch:b2", "of another branch"))
		last := publish(t, cluster[0], service, `{"namespace":"/orders","type":"newOrder","data":{"orderId":"in another namespace","branchId":"b1"}}`)
		for r.position(t) < last {
			require.Equal(t, Bookmark, r.next(t).Kind)
		}
		require.Equal(t, last, r.position(t))
	}

	// Events among it all come in their place, and a bookmark is as good a
	// cursor as an event's.
	stop := writers(t, 2, func(w, round int) {
		publish(t, cluster[w], apptest.Token(t, access.Service, "c2"), alert("branch:b1", "of another company"))
		publish(t, cluster[w], service, alert("branch:b1", fmt.Sprint(round)))
	})
	r.hear(t, 40)
	r.until(t, Bookmark)
	stop()
	r.conn.Close()
	last := publish(t, cluster[1], service, alert("branch:b1", "the end"))
	again := listen(t, dial, cluster[1], Ask{Token: token, Namespaces: availability, Cursor: r.cursor})
	again.reach(t, last)
	same(t, logged(t, cluster[0], token, "namespace=/availability"), append(r.heard, again.heard...))
}

func expiry(t *testing.T, dial Dialer) {
	t.Helper()
	i := apptest.Cluster(t, 1)[0]
	expires := time.Now().Add(5 * time.Second).Truncate(time.Second)
	token := apptest.TokenUntil(t, expires, access.Web, "c1", "b1")
	r := live(t, dial, i, Ask{Token: token, Namespaces: availability})
	publish(t, i, apptest.Token(t, access.Service, "c1"), alert("branch:b1", "in time"))
	r.hear(t, 1)
	if r.expires == "" {
		r.until(t, Expiring)
	}
	require.Equal(t, expires.UTC().Format(time.RFC3339), r.expires)
	require.Equal(t, "token_expired", r.until(t, GoAway).Reason)
	require.False(t, time.Now().Before(expires))
	require.Equal(t, News{Kind: End, Reason: "token_expired"}, r.next(t))
}

// drain stops an instance under its readers while others publish.
func drain(t *testing.T, dial Dialer) {
	t.Helper()
	cluster := apptest.Cluster(t, 2, "TAILROOM_DRAIN_TIMEOUT=4s") // within which each says goodbye
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	ask := Ask{Token: token, Namespaces: availability}
	readers := make([]*reader, 5)
	for n := range readers {
		readers[n] = live(t, dial, cluster[0], ask)
	}
	stop := writers(t, 2, func(_, round int) { publish(t, cluster[1], service, alert("branch:b1", fmt.Sprint(round))) })
	for _, r := range readers {
		r.until(t, Event)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		cluster[0].Stop()
	}()
	var reading sync.WaitGroup
	for _, r := range readers { // all at once: one that polls must ask in time
		reading.Go(func() {
			require.Equal(t, "draining", r.until(t, GoAway).Reason)
			n := r.until(t, End)
			require.Equal(t, "draining", n.Reason)
		})
	}
	reading.Wait()
	<-stopped
	stop()
	last := publish(t, cluster[1], service, alert("branch:b1", "the end"))
	whole := logged(t, cluster[1], token, "")
	for _, r := range readers {
		again := listen(t, dial, cluster[1], Ask{Token: token, Namespaces: availability, Cursor: r.cursor})
		again.reach(t, last)
		same(t, whole, append(r.heard, again.heard...))
	}
}

// pause has a reader that does not read while more is published than all
// buffers on the way hold.
func pause(t *testing.T, dial Dialer) {
	t.Helper()
	const events = 300
	cluster := apptest.Cluster(t, 2)
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	ask := Ask{Token: token, Namespaces: availability}
	slow := live(t, dial, cluster[0], ask)
	for range events / 50 {
		publish(t, cluster[1], service, alerts(50, "branch:b1", nineKB(t)))
	}
	slow.hear(t, events)
	same(t, logged(t, cluster[1], token, ""), slow.heard)
	last := publish(t, cluster[1], service, alert("branch:b1", "and goes on"))
	slow.reach(t, last)
	require.Len(t, slow.heard, events+1)
}

// logAway takes the database from under one instance while another publishes.
func logAway(t *testing.T, dial Dialer) {
	t.Helper()
	dsn := pgtest.Database(t)
	proxy := pgproxy.Start(t, dsn)
	cut, whole := apptest.Start(t, proxy.DSN(), "TAILROOM_POLL_INTERVAL=100ms"), apptest.Start(t, dsn)
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	r := live(t, dial, cut, Ask{Token: token, Namespaces: availability})
	publish(t, whole, service, alert("branch:b1", "before"))
	r.hear(t, 1)
	proxy.Refuse(true)
	require.NotEmpty(t, r.until(t, Degraded).Reason)
	publish(t, whole, service, alerts(3, "branch:b1", "meanwhile"))
	proxy.Refuse(false)
	r.until(t, Live)
	r.reach(t, publish(t, whole, service, alert("branch:b1", "afterwards")))
	same(t, logged(t, whole, token, ""), r.heard)
}
