package engineio

import (
	"errors"

	"github.com/tailroom/tailroom/internal/session"
)

// receive takes one packet in. It returns how the connection is to end, if it is. The
// caller holds calling.
func (c *Conn) receive(p packet) *ending {
	if c.ctx.Err() != nil {
		return nil // the handler may have been told already
	}
	c.stir()
	if p.kind == messagePacket {
		return endingOf(c.handler.Message(Message{Binary: p.binary, Data: p.data}))
	}
	if e := c.keepPace(); e != nil {
		return e
	}
	switch p.kind {
	case closePacket:
		return &clientClosed
	case pingPacket: // version 3: there it was clients that pinged
		return &unparsable
	case pongPacket:
		c.ponged()
	}
	return nil
}

// keepPace counts what is no message. It is answered by nothing, so only a flood matters.
// The caller holds calling.
func (c *Conn) keepPace() *ending {
	if c.pace.Frame("") != nil && c.pace.Flooding() {
		e := byServer(session.Overloaded)
		return &e
	}
	return nil
}

// endingOf is how a connection ends for a handler's error.
func endingOf(err error) *ending {
	if err == nil {
		return nil
	}
	if reason, ok := errors.AsType[session.Reason](err); ok {
		e := byServer(reason)
		return &e
	}
	return &unparsable
}
