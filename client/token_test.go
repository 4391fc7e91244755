package client_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/client"
	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
)

// A token is renewed before it ends, on the connection that there is.
func TestToken_IsRenewed(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	var asked atomic.Int64
	s := serverAt("", server.URL)
	until := func(d time.Duration) string {
		return apptest.TokenUntil(t, time.Now().Add(d), access.Service, "c1")
	}
	expires := 4 * time.Second
	short, expired := until(expires), time.NewTimer(expires+time.Second)
	long := until(time.Hour)
	s.Token = func(context.Context) (string, error) {
		switch asked.Add(1) {
		case 1:
			return short, nil
		case 2:
			return "", errors.New("the issuer is away")
		default:
			return long, nil
		}
	}
	f := follow(t, client.Config{Server: s, Subscribe: []client.Subscription{{Namespace: "/orders"}}})
	f.until(t, client.Live)
	require.Eventually(t, func() bool { return asked.Load() == 3 }, apptest.Patience, 10*time.Millisecond)
	<-expired.C
	_, err := f.Publish(t.Context(), orders(0, 1)...)
	require.NoError(t, err)
	require.Empty(t, f.statuses, "it was not interrupted")
	require.EqualValues(t, 3, asked.Load())
}

// With the same token again coming back is no use: Run says so.
func TestToken_NoOtherOne(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	for token, want := range map[string]*client.Error{
		"rubbish": client.ErrUnauthenticated,
		apptest.TokenUntil(t, time.Now().Add(-time.Hour), access.Web, "c1"): client.ErrTokenExpired,
	} {
		f := follow(t, client.Config{Server: serverAt(token, server.URL), Subscribe: []client.Subscription{{Namespace: "/orders"}}})
		require.ErrorIs(t, next(t, f.ended), want)
		_, err := serverAt(token, server.URL).Publish(t.Context(), orders(0, 1)...)
		require.ErrorIs(t, err, want)
		var e *client.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, http.StatusUnauthorized, e.Status)
	}
}

// A token is revoked under the client. The source has another one, so it comes back;
// it is told why it had to.
func TestToken_Revoked(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	var renewed atomic.Bool
	s := serverAt("", server.URL)
	old := apptest.Token(t, access.Web, "c1", "b7")
	other := apptest.Token(t, access.DesktopApp, "c1", "b7")
	s.Token = func(context.Context) (string, error) {
		if renewed.Load() {
			return other, nil
		}
		return old, nil
	}
	f := follow(t, client.Config{Server: s})
	f.until(t, client.Live)
	renewed.Store(true)
	answer := server.Do(t, http.MethodPost, "/v1/revocations", apptest.Token(t, access.Admin, "c1"), `{"subject":"test-web"}`, "Content-Type", "application/json")
	require.Equal(t, http.StatusCreated, answer.Status, string(answer.Body))
	told := f.until(t, client.Offline)
	require.ErrorIs(t, told[len(told)-1].Err, client.ErrTokenRevoked)
	f.until(t, client.Live)

	renewed.Store(false)
	again := follow(t, client.Config{Server: s})
	require.ErrorIs(t, next(t, again.ended), client.ErrTokenRevoked)
}
