package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strconv"
)

// A record is a line of the outbox: eight hexadecimal digits, which are the
// CRC-32C of the rest, a space, a JSON object, and a line feed. JSON has no line
// feed of its own, so a line that is whole and right was written whole.
type record struct {
	// Put is a group that waits, with the number of its place.
	Put    uint64            `json:"put,omitempty"`
	Events []json.RawMessage `json:"events,omitempty"`
	// Done says that all groups up to this number are dealt with.
	Done uint64 `json:"done,omitempty"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const sumLength = 9 // with the space

func (r record) append(b []byte) ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	b = fmt.Appendf(b, "%08x ", crc32.Checksum(text, castagnoli))
	return append(append(b, text...), '\n'), nil
}

// parseRecord reads a line without its line feed.
func parseRecord(line []byte) (r record, ok bool) {
	if len(line) < sumLength || line[sumLength-1] != ' ' {
		return record{}, false
	}
	sum, err := strconv.ParseUint(string(line[:sumLength-1]), 16, 32)
	text := line[sumLength:]
	if err != nil || sum != uint64(crc32.Checksum(text, castagnoli)) || json.Unmarshal(text, &r) != nil {
		return record{}, false
	}
	return r, (r.Put > 0 && len(r.Events) > 0) != (r.Done > 0)
}

// stored is a group that waits, and where in the file it is.
type stored struct {
	number uint64
	offset int64
	length int // of its line, with the line feed
	events int
}

// scan reads an outbox. end is where the good records end; what is behind it was
// being written when the machine stopped. The error says that it was not, because
// good records follow: the file was damaged otherwise.
func scan(file []byte) (waiting []stored, last uint64, end int64, err error) {
	for at := 0; at < len(file); {
		length := bytes.IndexByte(file[at:], '\n') + 1
		r, ok := record{}, false
		if length > 0 {
			r, ok = parseRecord(file[at : at+length-1])
		}
		ok = ok && (r.Put == 0 || r.Put > last) // a place is given once
		if !ok {
			if length > 0 && anyRecord(file[at+length:]) {
				return nil, 0, 0, fmt.Errorf("it is damaged at byte %d, and more follows", at)
			}
			return waiting, last, int64(at), nil
		}
		if r.Put > 0 {
			waiting = append(waiting, stored{r.Put, int64(at), length, len(r.Events)})
			last = r.Put
		}
		for len(waiting) > 0 && waiting[0].number <= r.Done {
			waiting = waiting[1:]
		}
		last = max(last, r.Done)
		at += length
	}
	return waiting, last, int64(len(file)), nil
}

func anyRecord(file []byte) bool {
	for line := range bytes.Lines(file) {
		if line, whole := bytes.CutSuffix(line, []byte("\n")); whole {
			if _, ok := parseRecord(line); ok {
				return true
			}
		}
	}
	return false
}
