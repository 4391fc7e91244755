package event

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestRedacts(t *testing.T) {
	t.Parallel()
	record := Event{
		Namespace: "/system", Type: "eventRedacted", CausationID: uuid.NullUUID{UUID: uuid.New(), Valid: true},
		Data: []byte(`{"position":1042,"cursor":"1-1042","reason":"asked for"}`),
	}
	position, ok := record.Redacts()
	require.True(t, ok)
	require.Equal(t, int64(1042), position)

	for name, change := range map[string]func(*Event){
		"another namespace":   func(e *Event) { e.Namespace = "/orders" },
		"another type":        func(e *Event) { e.Type = "alert" },
		"no position to read": func(e *Event) { e.Data = []byte(`{"position":"1042"}`) },
		"no event named":      func(e *Event) { e.CausationID = uuid.NullUUID{} },
	} {
		e := record
		change(&e)
		_, ok := e.Redacts()
		require.False(t, ok, name)
	}
}

func TestDisconnects(t *testing.T) {
	t.Parallel()
	e := Event{Namespace: "/system", Type: "sessionsDisconnected", Tenant: "c1", Data: []byte(`{"subject":"9","session":null,"reason":"x"}`)}
	d, ok := e.Disconnects()
	require.True(t, ok)
	require.Equal(t, Disconnection{Tenant: "c1", Subject: "9"}, d)
	everywhere := e
	everywhere.Tenant, everywhere.Data = "*", []byte(`{"subject":null,"session":"s"}`)
	d, ok = everywhere.Disconnects()
	require.True(t, ok)
	require.Equal(t, Disconnection{Session: "s"}, d)
	require.False(t, e.Revokes())

	for name, change := range map[string]func(*Event){
		"another namespace": func(e *Event) { e.Namespace = "/orders" },
		"another type":      func(e *Event) { e.Type = "tokensRevoked" },
		"nobody named":      func(e *Event) { e.Data = []byte(`{}`) },
		"both named":        func(e *Event) { e.Data = []byte(`{"subject":"9","session":"s"}`) },
		"nothing to read":   func(e *Event) { e.Data = []byte(`{"subject":9}`) },
	} {
		other := e
		change(&other)
		_, ok := other.Disconnects()
		require.False(t, ok, name)
	}
	revokes := Event{Namespace: "/system", Type: "tokensRevoked"}
	require.True(t, revokes.Revokes())
	elsewhere := Event{Namespace: "/orders", Type: "tokensRevoked"}
	require.False(t, elsewhere.Revokes())
}
