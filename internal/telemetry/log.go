// Package telemetry is what operators see of an instance. Its log is
// structured, one line an event, and every line names the instance, because
// the lines of a cluster are read together.
package telemetry

import (
	"io"
	"log/slog"
)

// NewLogger returns a logger of this level that writes to w in the format
// "text" or, for anything else, JSON.
func NewLogger(w io.Writer, format string, level slog.Level, instanceID string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewJSONHandler(w, options)
	if format == "text" {
		handler = slog.NewTextHandler(w, options)
	}
	return slog.New(handler).With("instance", instanceID)
}
