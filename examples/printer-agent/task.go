package main

import (
	"encoding/json"
	"time"

	"github.com/tailroom/tailroom/client"
)

// task is an event that asks for paper: a job (printJobUpdate with the status
// "queued") or a test page (printer:test).
type task struct {
	entry
	order

	event client.Event
	wrong string // why its data cannot be understood
}

// order is what the data say.
type order struct {
	PrinterID ident  `json:"printerId"`
	JobID     ident  `json:"jobId"`
	OrderID   ident  `json:"orderId"`
	Status    string `json:"status"`
	Text      string `json:"text"`
}

// The ways in which a task ends, as printJobUpdate says them.
const (
	printed = "printed"
	failed  = "failed"
	expired = "expired"
)

// outcome is what became of a task.
type outcome struct {
	Status   string        `json:"status"`
	Error    string        `json:"error,omitempty"`
	Duration time.Duration `json:"duration,omitempty"`
}

func read(e client.Event) task {
	t := task{event: e}
	if err := json.Unmarshal(e.Data, &t.order); err != nil {
		t.wrong = err.Error()
	}
	return t
}

func (t task) test() bool { return t.event.Type == "printer:test" }

func (t task) work() bool {
	return t.test() || t.event.Type == "printJobUpdate" && t.Status == "queued"
}

// ident is an id, which is text or an integer in JSON.
type ident string

// UnmarshalJSON takes both.
func (i *ident) UnmarshalJSON(text []byte) error {
	if text[0] == '"' {
		return json.Unmarshal(text, (*string)(i))
	}
	*i = ident(text)
	return nil
}
