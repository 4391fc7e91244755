package apptest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// BenchmarkRequest asks one instance over HTTP, by some requesters at once, for what an
// agent on a WebSocket of another instance answers at once.
func BenchmarkRequest(b *testing.B) {
	for _, requesters := range []int{1, 64} {
		b.Run(fmt.Sprintf("requesters=%d", requesters), func(b *testing.B) {
			dsn := pgtest.Database(b)
			asked, answering := benchInstance(b, dsn), benchInstance(b, dsn)
			runAgent(b, answering.URL)
			web := apptest.Token(b, access.Web, "c1")
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: requesters}}
			b.Cleanup(client.CloseIdleConnections)
			require.NoError(b, roundTrip(b.Context(), client, asked.URL, web)) // the pools have connected
			b.ResetTimer()
			var wg sync.WaitGroup
			var mu sync.Mutex
			var took []time.Duration
			until := time.Now().Add(benchTime)
			for range requesters {
				wg.Go(func() {
					for time.Now().Before(until) {
						start := time.Now()
						err := roundTrip(b.Context(), client, asked.URL, web)
						mu.Lock()
						took = append(took, time.Since(start))
						mu.Unlock()
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			slices.Sort(took)
			b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "requests/s")
			b.ReportMetric(took[len(took)/2].Seconds()*1000, "p50-ms")
			b.ReportMetric(took[len(took)*99/100].Seconds()*1000, "p99-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// roundTrip asks once.
func roundTrip(ctx context.Context, client *http.Client, url, token string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/requests", strings.NewReader(testPrint(newID(), "b7", "")))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	response, err := client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d: %s", response.StatusCode, text)
	}
	return err
}

// runAgent answers every test print that it hears of.
func runAgent(b *testing.B, url string) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	c, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(url, "http")+"/v1/ws", &websocket.DialOptions{Subprotocols: []string{"tailroom.v1"}})
	require.NoError(b, err)
	c.SetReadLimit(-1)
	hello := fmt.Sprintf(`{"type":"hello","token":%q,"subscribe":[{"namespace":"/printing-ws"}]}`, apptest.Token(b, access.DesktopApp, "c1", "b7"))
	require.NoError(b, c.Write(ctx, websocket.MessageText, []byte(hello)))
	live := make(chan struct{})
	isLive := sync.OnceFunc(func() { close(live) })
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			_, text, err := c.Read(ctx)
			if err != nil {
				return
			}
			var m struct {
				Type   string
				Events []struct{ Type, CorrelationID string }
			}
			if err := json.Unmarshal(text, &m); err != nil {
				b.Error(err)
				return
			}
			if m.Type == "live" {
				isLive()
			}
			for _, e := range m.Events {
				if e.Type != "printer:test" {
					continue
				}
				if err := c.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"type":"publish","events":[%s]}`, result(e.CorrelationID, "b7"))); err != nil {
					return
				}
			}
		}
	})
	b.Cleanup(func() {
		cancel()
		_ = c.CloseNow()
		wg.Wait()
	})
	<-live
}
