package socketio

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/session"
)

func assembled(t testing.TB, text string, parts ...string) (packet, error) {
	t.Helper()
	p, err := parsePacket([]byte(text))
	require.NoError(t, err)
	a := assemble(p)
	for i, part := range parts {
		complete, err := a.add([]byte(part), 100)
		require.NoError(t, err)
		require.Equal(t, i == len(parts)-1, complete)
	}
	return a.whole()
}

func TestAssembly(t *testing.T) {
	t.Parallel()
	p, err := assembled(t, `53-/orders,7["a",{"n":12345678901234567890,"deep":[{"x":{"_placeholder":true,"num":2}},{"num":0,"_placeholder":true}]},`+
		`{"_placeholder":false,"num":9},{"_placeholder":true,"num":1},"<b>"]`, "\x00\xff\xfe", "", "hello")
	require.NoError(t, err)
	require.Equal(t, kindEvent, p.kind)
	require.Equal(t, "/orders", p.namespace)
	require.Equal(t, "7", p.id)
	require.Equal(t, `["a",{"deep":[{"x":"aGVsbG8="},"AP/+"],"n":12345678901234567890},{"_placeholder":false,"num":9},"","<b>"]`, string(p.payload))
}

func TestAssembly_Refused(t *testing.T) {
	t.Parallel()
	for name, placeholder := range map[string]string{
		"beyond the last":   `{"_placeholder":true,"num":1}`,
		"negative":          `{"_placeholder":true,"num":-1}`,
		"a fraction":        `{"_placeholder":true,"num":0.5}`,
		"a text":            `{"_placeholder":true,"num":"0"}`,
		"none":              `{"_placeholder":true}`,
		"the same one more": `[{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]`,
	} {
		_, err := assembled(t, `51-["a",`+placeholder+`]`, "x")
		require.ErrorIs(t, err, errPacket, name)
	}
	p, err := parsePacket([]byte(`52-["a"]`))
	require.NoError(t, err)
	a := assemble(p)
	complete, err := a.add(make([]byte, 60), 100)
	require.NoError(t, err)
	require.False(t, complete)
	_, err = a.add(make([]byte, 41), 100)
	require.ErrorIs(t, err, session.TooLarge)
}

// Attachments end up in the places that the header gives them, and nowhere else; whatever
// comes, no more memory is taken than came.
func FuzzAssembly(f *testing.F) {
	f.Add([]byte(`52-/orders,3["a",{"b":{"_placeholder":true,"num":0}},{"_placeholder":true,"num":1}]`), []byte("\x01one\x02two"), 3)
	f.Add([]byte(`51-["a",[{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]]`), []byte("x"), 1)
	f.Add([]byte(`61-1[{"_placeholder":true}]`), []byte(""), 0)
	f.Add([]byte(`53-["a",{"_placeholder":true,"num":2},{"n":1e999}]`), []byte("abcdefgh"), 2)
	f.Fuzz(func(t *testing.T, text, bytesOf []byte, length int) {
		p, err := parsePacket(text)
		if err != nil || !p.binary() {
			return
		}
		const most = 1 << 10
		a, sent := assemble(p), 0
		for complete := false; !complete; {
			part := bytesOf[:max(0, min(length, len(bytesOf)))]
			bytesOf = bytesOf[len(part):]
			sent += len(part)
			complete, err = a.add(part, most)
			if err != nil {
				require.ErrorIs(t, err, session.TooLarge)
				require.Greater(t, sent, most)
				return
			}
		}
		require.Len(t, a.parts, p.attachments)
		parts := append([][]byte{}, a.parts...)
		whole, err := a.whole()
		if err != nil {
			require.True(t, errors.Is(err, errPacket))
			return
		}
		require.True(t, json.Valid(whole.payload))
		require.Less(t, len(whole.payload), 6*len(text)+2*sent+64) // escapes of six bytes, base64
		for i, part := range parts {
			placeholder := fmt.Sprintf(`{"_placeholder":true,"num":%d}`, i)
			if bytes.Contains(p.payload, []byte(placeholder)) && len(part) > 0 && a.parts[i] == nil {
				require.Contains(t, string(whole.payload), base64.StdEncoding.EncodeToString(part))
			}
		}
	})
}
