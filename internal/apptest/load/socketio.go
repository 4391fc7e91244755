package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// DialSocketIO connects to the instance at url as a Socket.IO client does over a WebSocket, and
// joins a namespace. It returns when that is answered.
func DialSocketIO(ctx context.Context, url, token, namespace string) (*Socket, error) {
	s, err := upgrade(ctx, url, "/socket.io/?EIO=4&transport=websocket", "")
	if err != nil {
		return nil, err
	}
	for _, step := range []struct{ answer, say string }{
		{`0{"sid":`, fmt.Sprintf(`40%s,{"token":%q}`, namespace, token)}, {"40" + namespace + ",{", ""},
	} {
		message, err := s.next(nil)
		if err == nil && !strings.HasPrefix(string(message), step.answer) {
			err = fmt.Errorf("an unexpected answer: %s", message)
		}
		if err == nil && step.say != "" {
			_, err = s.conn.Write(frame([]byte(step.say)))
		}
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// CountSocketIO is Count for a Socket.IO client, whose events of a name are counted, and whose
// pings are answered.
func (s *Socket) CountSocketIO(c *Counter, namespace, name string) error {
	marker := fmt.Appendf(nil, `42%s,[%q,`, namespace, name)
	var buf []byte
	for {
		message, err := s.next(buf)
		if err != nil {
			return err
		}
		buf = message
		c.Messages.Add(1)
		c.Bytes.Add(int64(len(message)))
		switch {
		case bytes.HasPrefix(message, marker):
			c.Events.Add(1)
		case len(message) == 1 && message[0] == '2':
			if _, err := s.conn.Write(frame([]byte("3"))); err != nil {
				return err
			}
		case len(message) == 0:
			return io.ErrUnexpectedEOF
		}
	}
}
