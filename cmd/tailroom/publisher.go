package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// publisher is `tailroom publish` at work.
type publisher struct {
	poster

	company string
	out     io.Writer
	status  *status

	lines, events, known, refused int
}

// one publishes one event and prints its receipt.
func (p *publisher) one(ctx context.Context, d description, args []string) error {
	d.Namespace, d.Type, d.Data = args[0], args[1], []byte(args[2])
	if err := json.Unmarshal(d.Data, new(json.RawMessage)); err != nil {
		return fmt.Errorf(`DATA is not JSON: %w; quote it for the shell, as in '{"orderId":"1"}'`, err)
	}
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	var refused error
	err = p.post(ctx, []line{newLine(1, text, p.company)}, func(_ line, a answer) {
		if a.refused() {
			refused = errors.New(a.reason())
		}
		for _, receipt := range a.Events {
			fmt.Fprintf(p.out, "%s\n", receipt)
		}
	})
	return errors.Join(err, refused)
}

// all publishes the lines of the input.
func (p *publisher) all(ctx context.Context, input io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches, read := make(chan batch, 1), make(chan error, 1)
	go func() { read <- readLines(ctx, input, p.company, batches) }()
	defer func() { p.status.printf("%s", p.summary()) }()
	for {
		select {
		case b, more := <-batches:
			if !more {
				return p.verdict(<-read)
			}
			if err := p.send(ctx, b.lines); err != nil {
				return err
			}
			p.status.showf("%s", p.summary())
		case <-ctx.Done():
			return errors.New("interrupted") // the input may never say another word
		}
	}
}

func (p *publisher) send(ctx context.Context, lines []line) error {
	before := p.lines
	err := p.post(ctx, lines, p.count)
	if err == nil {
		return nil
	}
	return fmt.Errorf("of lines %d to %d, which were under way, %d have no answer: %w",
		lines[0].number, lines[len(lines)-1].number, len(lines)-(p.lines-before), err)
}

func (p *publisher) count(l line, a answer) {
	p.lines++
	switch {
	case a.refused():
		p.refused++
		p.status.printf("line %d: %s", l.number, a.reason())
	case a.duplicate():
		p.known++
	default:
		p.events += len(a.Events)
	}
}

func (p *publisher) summary() string {
	return fmt.Sprintf("%d lines: %d events published, %d lines known before, %d refused", p.lines, p.events, p.known, p.refused)
}

// verdict is the exit status, as an error.
func (p *publisher) verdict(err error) error {
	if err == nil && p.refused > 0 {
		return fmt.Errorf("%d of %d lines were refused", p.refused, p.lines)
	}
	return err
}
