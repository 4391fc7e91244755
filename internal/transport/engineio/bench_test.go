package engineio

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkSend sends one message to each of a thousand WebSockets whose clients read, and
// says what a connection holds in memory and goroutines.
func BenchmarkSend(b *testing.B) {
	const sockets = 1000
	begun := make(chan *Conn, 1)
	s := serve(b, func(c *Config) {
		c.MaxConns = 4 * sockets // before they are crowded, and an address gets its share
		c.Accept = func(c *Conn) Handler {
			begun <- c
			return deaf{}
		}
	})
	memory, goroutines := inUse(), runtime.NumGoroutine()
	conns := make([]*Conn, sockets)
	for n := range conns {
		discards(b, s.url+"&transport=websocket")
		conns[n] = <-begun
	}
	memory, goroutines = inUse()-memory, runtime.NumGoroutine()-goroutines
	message := []byte(`2/orders,["newOrder",{"orderId":"` + strings.Repeat("x", 500) + `"}]`)
	b.ReportAllocs()
	for b.Loop() {
		for _, c := range conns {
			if err := c.Send(message); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(memory)/sockets, "B/conn") // the client's included
	b.ReportMetric(float64(goroutines)/sockets, "goroutines/conn")
}

// deaf is a Handler that does nothing.
type deaf struct{}

func (deaf) Message(Message) error { return nil }
func (deaf) Upgraded()             {}
func (deaf) Pinged()               {}
func (deaf) Ponged()               {}
func (deaf) Closed(string)         {}

func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// discards begins a connection whose client throws away what it reads.
func discards(b *testing.B, url string) {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(b, err)
	headers := handshakeOf(b)
	for n := 0; n < len(headers); n += 2 {
		r.Header.Set(headers[n], headers[n+1])
	}
	c, err := net.Dial("tcp", r.URL.Host)
	require.NoError(b, err)
	b.Cleanup(func() { _ = c.Close() })
	require.NoError(b, r.Write(c))
	in := bufio.NewReaderSize(c, 4096)
	response, err := http.ReadResponse(in, r)
	require.NoError(b, err)
	require.Equal(b, http.StatusSwitchingProtocols, response.StatusCode)
	go func() { _, _ = io.Copy(io.Discard, c) }()
}
