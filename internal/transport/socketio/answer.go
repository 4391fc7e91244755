package socketio

import (
	"maps"

	"github.com/tailroom/tailroom/internal/problem"
)

// emit is an event of the client's, as it is to be answered.
type emit struct {
	socket *socket
	name   string // what was emitted
	id     string // of the acknowledgement that is wanted; "": none
}

// done acknowledges what the client emitted, if it wants to know.
func (e emit) done(body map[string]any) {
	if e.id == "" {
		return
	}
	ack := map[string]any{"ok": true}
	maps.Copy(ack, body)
	e.acknowledge(ack)
}

// acknowledge answers with one argument.
func (e emit) acknowledge(v any) {
	text := appendHeader(nil, kindAck, e.socket.namespace, e.id)
	_ = e.socket.conn.engine.Send(appendJSON(text, []any{v})) // the reader finds out that a line is dead
}

// fail says what was wrong: in the acknowledgement, or else in an event of NestJS's name and form.
func (e emit) fail(err error) {
	if e.socket.ctx.Err() != nil {
		return // what is wrong is that nobody is there to be told
	}
	e.socket.conn.server.metrics.emitsRefused.Inc()
	p := problem.From(err)
	if e.id != "" {
		ack := fields(p)
		ack["ok"], ack["message"] = false, p.Detail
		e.acknowledge(ack)
		return
	}
	body := exception(p.Code, p.Detail, fields(p))
	body["event"] = legible(e.name)
	_ = e.socket.conn.engine.Send(appendJSON(appendHeader(nil, kindEvent, e.socket.namespace, ""), []any{eventException, body}))
}

// fields are what a problem says beside its sentence.
func fields(p *problem.Error) map[string]any {
	m := maps.Clone(p.Fields)
	if m == nil {
		m = map[string]any{}
	}
	m["code"] = p.Code
	if p.Retry > 0 {
		m["retryAfterMs"] = p.Retry.Milliseconds()
	}
	return m
}

// legible is as much of a name as is repeated.
func legible(name string) string {
	const most = 100
	for i := range name {
		if i >= most {
			return name[:i]
		}
	}
	return name
}
