package apptest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Stream is the answer to GET /v1/stream, read as it comes: what is not asked
// for with Next stays in the sockets' buffers.
type Stream struct {
	Header http.Header
	Proto  int // the version of HTTP: 1 or 2
	cancel context.CancelFunc
	body   io.ReadCloser
	lines  *bufio.Reader
	until  time.Time // when patience ends; heartbeats do not renew it
}

// Block is one block of a stream, up to the blank line that ends it.
type Block struct {
	ID, Event, Data, Retry string
	Raw                    string // with the lines' ends
}

// Stream opens a stream with a token ("" is none), which must begin. It is cut
// when the test ends.
func (i *Instance) Stream(t testing.TB, token, query string, headers ...string) *Stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	patience := time.AfterFunc(Patience, cancel)
	defer patience.Stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, i.URL+"/v1/stream?"+query, http.NoBody)
	require.NoError(t, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for n := 0; n+1 < len(headers); n += 2 {
		r.Header.Set(headers[n], headers[n+1])
	}
	response, err := i.client().Do(r)
	require.NoError(t, err)
	s := &Stream{
		Header: response.Header, Proto: response.ProtoMajor, cancel: cancel, body: response.Body, lines: bufio.NewReader(response.Body),
	}
	t.Cleanup(s.Close)
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(response.Body)
		require.FailNow(t, "the stream was refused", "%d %s", response.StatusCode, body)
	}
	return s
}

// Close leaves.
func (s *Stream) Close() {
	s.cancel()
	_ = s.body.Close()
}

// Next reads a block. The error is io.EOF when the server has ended the stream
// in good order.
func (s *Stream) Next(t testing.TB) (Block, error) {
	t.Helper()
	if s.until.IsZero() {
		s.until = time.Now().Add(Patience)
	}
	patience := time.AfterFunc(time.Until(s.until), s.cancel)
	defer patience.Stop()
	var b Block
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				require.Empty(t, b.Raw+line, "the stream ended within a block")
			}
			return b, err
		}
		b.Raw += line
		if line == "\n" {
			if b.Raw != ":\n\n" {
				s.until = time.Time{}
			}
			return b, nil
		}
		b.add(t, strings.TrimSuffix(line, "\n"))
	}
}

func (b *Block) add(t testing.TB, line string) {
	t.Helper()
	field, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch field {
	case "": // a comment
	case "id":
		b.ID = value
	case "event":
		b.Event = value
	case "data":
		b.Data = value
	case "retry":
		b.Retry = value
	default:
		require.Fail(t, "a line of no known field", "%q", line)
	}
}
