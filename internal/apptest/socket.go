package apptest

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// Message is any message of the server.
type Message struct {
	Type        string              `json:"type"`
	Ref         json.RawMessage     `json:"ref"`
	OK          bool                `json:"ok"`
	Code        string              `json:"code"`
	Message     string              `json:"message"`
	Cursor      string              `json:"cursor"`
	Events      []json.RawMessage   `json:"events"`
	Session     string              `json:"session"`
	Instance    string              `json:"instance"`
	Epoch       int64               `json:"epoch"`
	HeartbeatMS int64               `json:"heartbeatMs"`
	Rooms       map[string][]string `json:"rooms"`
	Reason      string              `json:"reason"`
	Oldest      string              `json:"oldest"`
	Resume      string              `json:"resume"`
	Snapshot    string              `json:"snapshot"`
	DelayMS     int64               `json:"delayMs"`
	ExpiresAt   string              `json:"expiresAt"`
	Raw         []byte              `json:"-"`
}

// Decoded are the message's events.
func (m Message) Decoded(t testing.TB) []Event {
	t.Helper()
	events := make([]Event, len(m.Events))
	for i, raw := range m.Events {
		require.NoError(t, json.Unmarshal(raw, &events[i]))
	}
	return events
}

// Socket is a WebSocket to an instance.
type Socket struct {
	Conn *websocket.Conn
}

// Dial connects, and says nothing yet. The connection is cut when the test
// ends.
func (i *Instance) Dial(t testing.TB) *Socket {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(i.URL, "http")+"/v1/ws", &websocket.DialOptions{
		HTTPClient: i.client(), Subprotocols: []string{"tailroom.v1"}, CompressionMode: websocket.CompressionNoContextTakeover,
	})
	require.NoError(t, err)
	conn.SetReadLimit(-1)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &Socket{Conn: conn}
}

// Hello connects and says hello; subscribe is the JSON of the list. It returns
// the welcome.
func (i *Instance) Hello(t testing.TB, token, cursor, subscribe string) (*Socket, Message) {
	t.Helper()
	s := i.Dial(t)
	hello := map[string]any{"type": "hello", "token": token, "subscribe": json.RawMessage(subscribe)}
	if cursor != "" {
		hello["cursor"] = cursor
	}
	s.SendJSON(t, hello)
	welcome := s.Next(t)
	require.Equal(t, "welcome", welcome.Type, string(welcome.Raw))
	return s, welcome
}

// Consume connects and says hello as a consumer, without a cursor. It returns the
// welcome.
func (i *Instance) Consume(t testing.TB, token, consumer, subscribe string) (*Socket, Message) {
	t.Helper()
	s := i.Dial(t)
	s.SendJSON(t, map[string]any{"type": "hello", "token": token, "consumer": consumer, "subscribe": json.RawMessage(subscribe)})
	welcome := s.Next(t)
	require.Equal(t, "welcome", welcome.Type, string(welcome.Raw))
	return s, welcome
}

// Ack acknowledges a cursor.
func (s *Socket) Ack(t testing.TB, cursor string) {
	t.Helper()
	s.SendJSON(t, map[string]any{"type": "ack", "cursor": cursor})
}

// Send writes a text message as it is.
func (s *Socket) Send(t testing.TB, text string) {
	t.Helper()
	secrets.Token(text)
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	require.NoError(t, s.Conn.Write(ctx, websocket.MessageText, []byte(text)))
}

// SendJSON writes v as a message.
func (s *Socket) SendJSON(t testing.TB, v any) {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	s.Send(t, string(text))
}

// Next reads a message.
func (s *Socket) Next(t testing.TB) Message {
	t.Helper()
	m, err := s.Read(t)
	require.NoError(t, err)
	return m
}

// Read reads a message or the error that the connection ended with.
func (s *Socket) Read(t testing.TB) (Message, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	_, data, err := s.Conn.Read(ctx)
	if err != nil {
		return Message{}, err
	}
	secrets.Look("a message", data)
	m := Message{Raw: data}
	require.NoError(t, json.Unmarshal(data, &m), string(data))
	return m, nil
}

// Until reads messages up to and with the first of a type.
func (s *Socket) Until(t testing.TB, kind string) []Message {
	t.Helper()
	var list []Message
	for {
		m := s.Next(t)
		list = append(list, m)
		if m.Type == kind {
			return list
		}
	}
}

// Closed reads until the connection ends, and returns how.
func (s *Socket) Closed(t testing.TB) websocket.CloseError {
	t.Helper()
	for {
		if _, err := s.Read(t); err != nil {
			var closed websocket.CloseError
			require.ErrorAs(t, err, &closed)
			return closed
		}
	}
}

// Collect reads until n events have come, and returns them in order.
func (s *Socket) Collect(t testing.TB, n int) []Event {
	t.Helper()
	var events []Event
	for len(events) < n {
		m := s.Next(t)
		events = append(events, m.Decoded(t)...)
	}
	require.Len(t, events, n)
	return events
}
