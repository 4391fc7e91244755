package main

import (
	"fmt"
	"io"
	"os"
)

// status is a line on a terminal that is written over as things go on. Where
// there is no terminal, only what is to stay is written.
type status struct {
	w        io.Writer
	terminal bool
}

func newStatus(w io.Writer) *status { return &status{w: w, terminal: isTerminal(w)} }

// isTerminal reports whether a reader or writer is one.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// eraseLine goes to the beginning of the line and empties it.
const eraseLine = "\r\x1b[K"

// showf replaces the line.
func (s *status) showf(format string, args ...any) {
	if s.terminal {
		fmt.Fprintf(s.w, eraseLine+format, args...)
	}
}

// printf writes a line that stays.
func (s *status) printf(format string, args ...any) {
	if s.terminal {
		format = eraseLine + format
	}
	fmt.Fprintf(s.w, format+"\n", args...)
}
