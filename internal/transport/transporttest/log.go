package transporttest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// alert is an event of one room, with some text.
func alert(room, text string) string {
	return fmt.Sprintf(`{"namespace":"/availability","type":"newAlert","rooms":[%q],"data":{"message":%q}}`, room, text)
}

// alerts is a group of n of them.
func alerts(n int, room, text string) string {
	list := make([]string, n)
	for i := range list {
		list[i] = alert(room, fmt.Sprintf("%d %s", i, text))
	}
	return "[" + strings.Join(list, ",") + "]"
}

// nineKB is a text of an event that nothing compresses, neither a transport nor
// PostgreSQL. Some hundreds of them fill whatever buffers there are between a
// server and a client.
func nineKB(t testing.TB) string {
	t.Helper()
	random := make([]byte, 9<<10/2)
	_, err := rand.Read(random)
	require.NoError(t, err)
	return hex.EncodeToString(random)
}

// publish publishes and returns the last position.
func publish(t testing.TB, i *apptest.Instance, token, body string) (last int64) {
	t.Helper()
	receipts := i.Publish(t, token, body)
	return receipts[len(receipts)-1].Position
}

// logged is what the log holds of a query, as history shows it.
func logged(t testing.TB, i *apptest.Instance, token, query string) []string {
	t.Helper()
	return i.Lines(t, "/v1/events?limit=10000&"+query, token)
}

// execute runs SQL as somebody who may do anything to the log.
func execute(t testing.TB, dsn, sql string) {
	t.Helper()
	_, err := pgtest.Pool(t, dsn).Exec(t.Context(), sql)
	require.NoError(t, err)
}

// writers run until stop is called, which waits for them.
func writers(t testing.TB, n int, write func(writer, round int)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{}, n)
	for writer := range n {
		go func() {
			defer func() { done <- struct{}{} }()
			for round := 0; ctx.Err() == nil; round++ {
				write(writer, round)
			}
		}()
	}
	return func() {
		cancel()
		for range n {
			<-done
		}
	}
}
