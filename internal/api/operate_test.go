package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// Only administrators give orders, and only for the company that they are of.
func TestOrders_AreTheAdministrators(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	for _, path := range []string{"/v1/revocations", "/v1/disconnections"} {
		for _, role := range access.Roles {
			companies := []string{"c1"}
			if role != access.Web && role != access.DesktopApp {
				companies = append(companies, "*")
			}
			for _, company := range companies {
				answer := i.Do(t, http.MethodPost, path, apptest.Token(t, role, company), `{"subject":"x"}`)
				if role == access.Admin {
					require.Equal(t, http.StatusCreated, answer.Status, string(answer.Body))
				} else {
					requireProblem(t, answer, 403, "forbidden", fmt.Sprint(path, role, company))
				}
			}
		}
		requireProblem(t, i.Do(t, http.MethodPost, path, apptest.Token(t, access.Admin, "c1", "b1"), `{"subject":"x"}`), 403, "forbidden", "of a branch")
		requireProblem(t, i.Do(t, http.MethodPost, path, apptest.Token(t, access.Admin, "c1"), `{"subject":"x","companyId":"c2"}`), 403, "forbidden", "another's")
		requireProblem(t, i.Do(t, http.MethodPost, path, "", `{"subject":"x"}`), 401, "unauthenticated", "nobody")
		requireProblem(t, i.Get(t, path, apptest.Token(t, access.Admin, "*")), 405, "method_not_allowed", "read")
	}
}

func TestOrders_Scope(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	for _, test := range []struct{ admin, body, company string }{
		{"c1", `{"subject":"x"}`, `"c1"`},
		{"c1", `{"subject":"x","companyId":"c1"}`, `"c1"`},
		{"*", `{"subject":"x","companyId":"c2"}`, `"c2"`},
		{"*", `{"subject":"x"}`, `null`},
		{"*", `{"subject":"x","companyId":null,"reason":null}`, `null`},
	} {
		for _, path := range []string{"/v1/revocations", "/v1/disconnections"} {
			answer := i.Do(t, http.MethodPost, path, apptest.Token(t, access.Admin, test.admin), test.body)
			require.Equal(t, http.StatusCreated, answer.Status, string(answer.Body))
			var said map[string]json.RawMessage
			require.NoError(t, json.Unmarshal(answer.Body, &said))
			require.Equal(t, test.company, string(said["companyId"]))
			require.Equal(t, `"x"`, string(said["subject"]))
			require.Equal(t, `null`, string(said["reason"]))
			require.Regexp(t, `^"1-\d+"$`, string(said["cursor"]))
			require.Regexp(t, `^".*Z"$`, string(said["recordedAt"]))
		}
	}
	answer := i.Do(t, http.MethodPost, "/v1/revocations", apptest.Token(t, access.Admin, "*"),
		`{"tokenId":"j1","reason":"`+strings.Repeat("ü", 1000)+`"}`)
	require.Equal(t, http.StatusCreated, answer.Status, string(answer.Body))
	require.Contains(t, string(answer.Body), `"before":null`)
	answer = i.Do(t, http.MethodPost, "/v1/revocations", apptest.Token(t, access.Admin, "*"), `{"subject":"x","before":"2026-01-31T18:30:00+01:00"}`)
	require.Equal(t, "2026-01-31T17:30:00.000000Z", answer.Field("before"))
}

func TestOrders_TooManyRevocations(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	i := apptest.Start(t, dsn)
	_, err := pgtest.Pool(t, dsn).Exec(t.Context(), `INSERT INTO tailroom.revocations (position, tenant, subject, before, created_at)
		SELECT -n, 'c1', 'subject ' || n, now(), now() FROM generate_series(1, 10000) n`)
	require.NoError(t, err)
	one, platform := apptest.Token(t, access.Admin, "c1"), apptest.Token(t, access.Admin, "*")
	for token, body := range map[string]string{one: `{"subject":"x"}`, platform: `{"tokenId":"x","companyId":"c1"}`} {
		fields := requireProblem(t, i.Do(t, http.MethodPost, "/v1/revocations", token, body), 413, "too_large", body)
		require.EqualValues(t, 10_000, fields["limit"])
	}
	require.EqualValues(t, 2, limited(t, i, "revocations_per_company"))
	for token, path := range map[string]string{one: "/v1/disconnections", platform: "/v1/revocations"} {
		answer := i.Do(t, http.MethodPost, path, token, `{"subject":"x"}`)
		require.Equal(t, http.StatusCreated, answer.Status, string(answer.Body))
	}
}

func TestOrders_Malformed(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	admin := apptest.Token(t, access.Admin, "*")
	for path, bodies := range map[string]map[string]string{
		"/v1/revocations": {
			``: "invalid_json", `{`: "invalid_json", "{\"subject\":\"\xff\"}": "invalid_json",
			`[]`: "invalid_parameter", `null`: "invalid_parameter", `"x"`: "invalid_parameter",
			`{}`: "invalid_parameter", `{"subject":null}`: "invalid_parameter",
			`{"subject":"x","tokenId":"y"}`: "invalid_parameter", `{"session":"x"}`: "invalid_parameter",
			`{"subject":""}`: "invalid_parameter", `{"subject":"a\u0000"}`: "invalid_parameter", `{"subject":7}`: "invalid_parameter",
			`{"tokenId":""}`: "invalid_parameter", `{"subject":"` + strings.Repeat("x", 256) + `"}`: "invalid_parameter",
			`{"subject":"x","befor":"2026-01-31T18:30:00Z"}`:               "invalid_parameter",
			`{"subject":"x","before":"yesterday"}`:                         "invalid_parameter",
			`{"subject":"x","before":""}`:                                  "invalid_parameter",
			`{"subject":"x","before":"0000-01-01T00:00:00Z"}`:              "invalid_parameter",
			`{"subject":"x","before":1700000000}`:                          "invalid_parameter",
			`{"subject":"x","reason":" "}`:                                 "invalid_parameter",
			`{"subject":"x","reason":"a\u0000"}`:                           "invalid_parameter",
			`{"subject":"x","reason":"` + strings.Repeat("x", 1001) + `"}`: "invalid_parameter",
			`{"subject":"x","companyId":"*"}`:                              "invalid_parameter",
			`{"subject":"x","companyId":"a b"}`:                            "invalid_parameter",
		},
		"/v1/disconnections": {
			`{}`: "invalid_parameter", `{"subject":"x","session":"y"}`: "invalid_parameter", `{"tokenId":"x"}`: "invalid_parameter",
			`{"session":"x","before":"2026-01-31T18:30:00Z"}`: "invalid_parameter", `{"session":""}`: "invalid_parameter",
		},
	} {
		for body, code := range bodies {
			answer := i.Do(t, http.MethodPost, path, admin, body)
			requireProblem(t, answer, 400, code, path+" "+body)
		}
	}
	require.Empty(t, i.Lines(t, "/v1/events?namespace=/system", admin), "nothing was done")
}

// What operators did is history that administrators read: of their company, or of
// everything.
func TestOrders_History(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	platform, one, two := apptest.Token(t, access.Admin, "*"), apptest.Token(t, access.Admin, "c1"), apptest.Token(t, access.Admin, "c2")
	for _, order := range []struct{ path, token, body string }{
		{"/v1/revocations", one, `{"subject":"x","reason":"of one"}`},
		{"/v1/disconnections", two, `{"session":"s","reason":"of two"}`},
		{"/v1/revocations", platform, `{"tokenId":"j","reason":"of all"}`},
		{"/v1/disconnections", platform, `{"subject":"x","companyId":"c1","reason":"of one again"}`},
	} {
		answer := i.Do(t, http.MethodPost, order.path, order.token, order.body)
		require.Equal(t, http.StatusCreated, answer.Status, string(answer.Body))
	}
	type told struct{ company, kind, actor, reason string }
	read := func(token, query string) []told {
		events, _, _ := i.History(t, token, "namespace=/system"+query)
		list := []told{}
		for _, e := range events {
			var data struct{ Reason, Actor string }
			require.NoError(t, json.Unmarshal(e.Data, &data))
			list = append(list, told{e.CompanyID, e.Type, data.Actor, data.Reason})
		}
		return list
	}
	all := []told{
		{"c1", "tokensRevoked", "user:test-admin", "of one"},
		{"c2", "sessionsDisconnected", "user:test-admin", "of two"},
		{"*", "tokensRevoked", "user:test-admin", "of all"},
		{"c1", "sessionsDisconnected", "user:test-admin", "of one again"},
	}
	require.Equal(t, all, read(platform, ""))
	require.Equal(t, []told{all[0], all[2]}, read(platform, "&type=tokensRevoked"))
	require.Equal(t, []told{all[0], all[3]}, read(platform, "&companyId=c1"))
	require.Equal(t, []told{all[0], all[3]}, read(one, ""))
	require.Equal(t, []told{all[1]}, read(two, "&room=company:c2"))
	requireProblem(t, i.Get(t, "/v1/events?namespace=/system&type=newOrder", platform), 422, "unknown_type", "a type")
	events, _, _ := i.History(t, platform, "")
	require.Empty(t, events, "it is asked for by name")
}

// One company's orders wait for each other, not all others for them.
func TestOrders_TakeTurns(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	i := apptest.Start(t, dsn)
	pool := pgtest.Pool(t, dsn)
	lock, err := pool.Begin(t.Context()) // nothing can be ordered
	require.NoError(t, err)
	_, err = lock.Exec(t.Context(), "SELECT pg_advisory_xact_lock(1952541036, 1)")
	require.NoError(t, err)
	waiting := func() (n int) {
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
			WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.objid = 1 AND NOT l.granted`).Scan(&n))
		return n
	}
	var orders errgroup.Group
	order := func(company string) {
		token := apptest.Token(t, access.Admin, company)
		orders.Go(func() error {
			answer, err := i.Request(t.Context(), http.MethodPost, "/v1/disconnections", token, `{"subject":"x"}`)
			if err == nil && answer.Status != http.StatusCreated {
				err = errors.New(string(answer.Body))
			}
			return err
		})
	}
	for range 12 {
		order("c1")
	}
	require.Eventually(t, func() bool { return waiting() == 1 }, apptest.Patience, tick)
	order("c2")
	require.Eventually(t, func() bool { return waiting() == 2 }, apptest.Patience, tick)
	require.NoError(t, lock.Rollback(t.Context()))
	require.NoError(t, orders.Wait())
}
