package load

import (
	"bytes"
)

// Ask sends a message and reads until an answer of a type has come.
func (s *Socket) Ask(message, kind string) error {
	if _, err := s.conn.Write(frame([]byte(message))); err != nil {
		return err
	}
	for want := []byte(`"type":"` + kind + `"`); ; {
		answer, err := s.next(nil)
		if err != nil || bytes.Contains(answer, want) {
			return err
		}
	}
}

// Await reads until so many events have come.
func (s *Socket) Await(events int) error {
	for events > 0 {
		message, err := s.next(nil)
		if err != nil {
			return err
		}
		events -= bytes.Count(message, marker)
	}
	return nil
}
