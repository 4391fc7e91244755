package socketio

import (
	"bytes"
	"encoding/base64"
	"encoding/json"

	"github.com/tailroom/tailroom/internal/session"
)

// assembly is a packet whose attachments are still to come.
type assembly struct {
	packet packet
	parts  [][]byte
	size   int64
}

// assemble begins a packet with attachments.
func assemble(p packet) *assembly {
	return &assembly{packet: p}
}

// add takes the next attachment, and reports whether it was the last one. All of
// them together may have as many bytes as one message.
func (a *assembly) add(data []byte, most int64) (complete bool, err error) {
	if a.size += int64(len(data)); a.size > most {
		return false, session.TooLarge
	}
	if data == nil {
		data = []byte{} // nil is one that has been taken
	}
	a.parts = append(a.parts, data)
	return len(a.parts) == a.packet.attachments, nil
}

// whole is the packet with each attachment in its place, as its base64 text
// (RFC 4648, §4): the log holds JSON.
func (a *assembly) whole() (packet, error) {
	p := a.packet
	p.kind -= kindBinaryEvent - kindEvent
	decoder := json.NewDecoder(bytes.NewReader(p.payload))
	decoder.UseNumber() // ids are not to be rounded
	var v any
	if err := decoder.Decode(&v); err != nil {
		return p, errPacket
	}
	v, err := a.fill(v)
	if err != nil {
		return p, err
	}
	p.payload, p.attachments = appendJSON(nil, v), 0
	err = p.check()
	return p, err
}

// fill puts the attachments into v. Each has one place: many of a large one would
// take a hundred thousand times the memory that came.
func (a *assembly) fill(v any) (_ any, err error) {
	switch v := v.(type) {
	case []any:
		for i := range v {
			if v[i], err = a.fill(v[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		if v["_placeholder"] == true {
			return a.take(v["num"])
		}
		for name := range v {
			if v[name], err = a.fill(v[name]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// take is the attachment of a number.
func (a *assembly) take(num any) (any, error) {
	number, _ := num.(json.Number)
	i, err := number.Int64()
	if err != nil || i < 0 || i >= int64(len(a.parts)) || a.parts[i] == nil {
		return nil, errPacket
	}
	part := a.parts[i]
	a.parts[i] = nil
	return base64.StdEncoding.EncodeToString(part), nil
}
