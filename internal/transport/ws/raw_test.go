package ws_test

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
)

// Opcodes of RFC 6455, and the first byte's bits.
const (
	opContinuation, opText, opBinary, opClose, opPing, opPong = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
	fin, rsv1                                                 = 0x80, 0x40
)

// rawConn is a client that sees frames, and answers nothing by itself.
type rawConn struct {
	net.Conn
	in *bufio.Reader
}

// frame is one frame of the server.
type frame struct {
	fin, compressed bool
	opcode          byte
	payload         []byte
}

// dialRaw upgrades a connection by hand. The headers come in pairs.
func dialRaw(t testing.TB, i *apptest.Instance, headers ...string) *rawConn {
	t.Helper()
	conn, err := apptest.Dial(t.Context(), "tcp", strings.TrimPrefix(i.URL, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	r := &rawConn{Conn: conn, in: bufio.NewReader(conn)}
	request := "GET /v1/ws HTTP/1.1\r\nHost: tailroom\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: tailroom.v1\r\n"
	for n := 0; n+1 < len(headers); n += 2 {
		request += headers[n] + ": " + headers[n+1] + "\r\n"
	}
	r.write(t, []byte(request+"\r\n"))
	r.patience(t)
	response, err := http.ReadResponse(r.in, nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
	require.Equal(t, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", response.Header.Get("Sec-WebSocket-Accept"))
	require.Equal(t, "tailroom.v1", response.Header.Get("Sec-WebSocket-Protocol"))
	return r
}

// helloRaw upgrades, says hello to all of a namespace and reads the welcome.
func helloRaw(t testing.TB, i *apptest.Instance, token, namespace string, headers ...string) *rawConn {
	t.Helper()
	r := dialRaw(t, i, headers...)
	r.text(t, `{"type":"hello","token":"`+token+`","subscribe":[{"namespace":"`+namespace+`"}]}`)
	require.Equal(t, "welcome", r.message(t).Type)
	return r
}

func (r *rawConn) patience(t testing.TB) {
	t.Helper()
	require.NoError(t, r.SetDeadline(time.Now().Add(apptest.Patience)))
}

func (r *rawConn) write(t testing.TB, b []byte) {
	t.Helper()
	r.patience(t)
	_, err := r.Write(b)
	require.NoError(t, err)
}

// send writes a masked frame; first is its first byte.
func (r *rawConn) send(t testing.TB, first byte, payload []byte) {
	t.Helper()
	r.write(t, maskedFrame(first, payload))
}

func (r *rawConn) text(t testing.TB, message string) {
	t.Helper()
	r.send(t, fin|opText, []byte(message))
}

func maskedFrame(first byte, payload []byte) []byte {
	mask := [4]byte{1, 2, 3, 4}
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

// read reads a frame, or the error that the connection ended with. The
// server's frames must not be masked.
func (r *rawConn) read(t testing.TB) (f frame, err error) {
	t.Helper()
	r.patience(t)
	var head [2]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		return f, err
	}
	require.Zero(t, head[1]&0x80, "a masked frame of a server")
	length := uint64(head[1])
	var extended [8]byte
	switch length {
	case 126:
		_, err = io.ReadFull(r.in, extended[6:])
	case 127:
		_, err = io.ReadFull(r.in, extended[:])
	}
	if err != nil {
		return f, err
	}
	if length >= 126 {
		length = binary.BigEndian.Uint64(extended[:])
	}
	f = frame{fin: head[0]&fin != 0, compressed: head[0]&rsv1 != 0, opcode: head[0] & 0xf, payload: make([]byte, length)}
	require.Zero(t, head[0]&0x30, "reserved bits")
	_, err = io.ReadFull(r.in, f.payload)
	return f, err
}

func (r *rawConn) frame(t testing.TB) frame {
	t.Helper()
	f, err := r.read(t)
	require.NoError(t, err)
	return f
}

// message reads a text message; pings and pongs are passed over.
func (r *rawConn) message(t testing.TB) apptest.Message {
	t.Helper()
	for {
		f := r.frame(t)
		if f.opcode == opPing || f.opcode == opPong {
			continue
		}
		return f.message(t)
	}
}

// message is a text frame as a message.
func (f frame) message(t testing.TB) apptest.Message {
	t.Helper()
	require.EqualValues(t, opText, f.opcode, "%q", f.payload)
	require.True(t, f.fin)
	text := f.payload
	if f.compressed {
		// RFC 7692: the end of the flush is implied.
		inflated, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(f.payload), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
		require.NoError(t, err)
		apptest.Look("a compressed message", inflated)
		text = inflated
	}
	m := apptest.Message{Raw: text}
	require.NoError(t, json.Unmarshal(text, &m), "%q", text)
	return m
}

// closed reads up to the close frame.
func (r *rawConn) closed(t testing.TB) (code uint16, reason string) {
	t.Helper()
	for {
		if f := r.frame(t); f.opcode == opClose {
			return binary.BigEndian.Uint16(f.payload), string(f.payload[2:])
		}
	}
}
