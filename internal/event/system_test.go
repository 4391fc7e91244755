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
