package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/google/uuid"

	"github.com/tailroom/tailroom/internal/event"
)

const (
	// maxLine is more than any server takes.
	maxLine = 64 << 20
	// What is full of these is one request.
	requestLines = 1000
	requestBytes = 1 << 20
)

// line is one line of NDJSON: a group of events that is published whole or not
// at all.
type line struct {
	number int // where it stood in the input, from 1
	json   []byte
}

// newLine gives every event an id, so that it can be sent again when the
// answer is lost, and the company, if it names none. What is not an event or a
// list of them stays as it is: the server says what is wrong with it.
func newLine(number int, text []byte, company string) line {
	var events []map[string]json.RawMessage
	one := text[0] != '['
	if one {
		text = append(append([]byte{'['}, text...), ']')
	}
	if json.Unmarshal(text, &events) == nil {
		for _, e := range events {
			fill(e, "id", uuid.Must(uuid.NewV7()).String())
			fill(e, "companyId", company)
		}
		if filled, err := json.Marshal(events); err == nil {
			text = filled
		}
	}
	if one {
		text = text[1 : len(text)-1]
	}
	return line{number: number, json: text}
}

// fill sets a field that is missing.
func fill(e map[string]json.RawMessage, name, value string) {
	given := string(e[name])
	if e != nil && value != "" && (given == "" || given == "null") {
		e[name] = event.AppendString(nil, value)
	}
}

// batch is the lines of one request.
type batch struct {
	lines []line
	bytes int
}

// readLines cuts the input into batches, without waiting for them to fill: what
// comes while one is being sent is the next. Out has room for one batch, and
// is closed at the end.
func readLines(ctx context.Context, input io.Reader, company string, out chan batch) error {
	defer close(out)
	scanner := bufio.NewScanner(input)
	scanner.Buffer(nil, maxLine)
	number := 0
	for scanner.Scan() {
		number++
		text := bytes.TrimSpace(scanner.Bytes())
		if len(text) == 0 {
			continue
		}
		if err := add(ctx, out, newLine(number, bytes.Clone(text), company)); err != nil {
			return err
		}
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("reading line %d: %w", number+1, err)
	}
	return nil
}

// add puts a line into the batch that waits, or behind it when it is full.
func add(ctx context.Context, out chan batch, l line) error {
	var b batch
	select {
	case b = <-out:
	default:
	}
	if len(b.lines) >= requestLines || b.bytes >= requestBytes {
		out <- b // there is room: nobody else sends
		b = batch{}
	}
	b.lines, b.bytes = append(b.lines, l), b.bytes+len(l.json)
	select {
	case out <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
