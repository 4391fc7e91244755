package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// Publisher publishes over one kept HTTP connection, one request at a time.
type Publisher struct {
	conn net.Conn
	in   *bufio.Reader
	head string
	buf  []byte
}

// NewPublisher connects to the instance at url.
func NewPublisher(ctx context.Context, url, token string) (*Publisher, error) {
	address := strings.TrimPrefix(url, "http://")
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &Publisher{
		conn: conn, in: bufio.NewReader(conn),
		head: "POST /v1/events HTTP/1.1\r\nHost: " + address + "\r\nAuthorization: Bearer " + token +
			"\r\nContent-Type: application/json\r\nContent-Length: ",
	}, nil
}

// Publish sends a body and waits until the log has it.
func (p *Publisher) Publish(body string) error {
	p.buf = append(p.buf[:0], p.head...)
	p.buf = strconv.AppendInt(p.buf, int64(len(body)), 10)
	p.buf = append(append(p.buf, "\r\n\r\n"...), body...)
	if _, err := p.conn.Write(p.buf); err != nil {
		return err
	}
	response, err := http.ReadResponse(p.in, nil)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(response.Body)
	err = errors.Join(err, response.Body.Close())
	if err == nil && response.StatusCode != http.StatusCreated {
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	return err
}

// Close cuts the connection.
func (p *Publisher) Close() error { return p.conn.Close() }
