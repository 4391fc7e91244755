package socketio

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"unicode"
	"unicode/utf8"
)

// kind is the type of a packet, of which its digit is the first byte.
type kind byte

// The kinds of the Socket.IO protocol, revision 5.
const (
	kindConnect kind = iota
	kindDisconnect
	kindEvent
	kindAck
	kindConnectError
	kindBinaryEvent
	kindBinaryAck
)

const (
	// maxAttachments is how many binary attachments a packet may have.
	maxAttachments = 10
	// maxName is the length of a namespace that is answered, in bytes. Those of the
	// catalogue have 64 at the most.
	maxName = 1 << 10
	// maxID is how many digits the id of an acknowledgement may have.
	maxID = 20
	// root is the namespace that is never written.
	root = "/"
)

// errPacket is what is wrong with a connection on which something came that is no
// packet, or not at that moment.
var errPacket = errors.New("not a packet of Socket.IO, revision 5, or not one that may come here")

// reserved are names of events that only a client's library has.
var reserved = []string{"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}

// packet is a message of the protocol:
//
//	<kind>[<attachments>-][<namespace>,][<id>][<payload>]
type packet struct {
	kind        kind
	attachments int
	namespace   string
	id          string // of the acknowledgement that is wanted or given, in digits; "" is none
	payload     []byte // JSON of the form that the kind asks for; nil is none
}

// binary reports whether attachments follow.
func (p *packet) binary() bool { return p.kind == kindBinaryEvent || p.kind == kindBinaryAck }

// parsePacket reads a message. The payload shares its memory.
func parsePacket(text []byte) (p packet, err error) {
	if len(text) == 0 || text[0] < '0' || text[0] > '0'+byte(kindBinaryAck) || !utf8.Valid(text) {
		return p, errPacket
	}
	p.kind, p.namespace = kind(text[0]-'0'), root
	rest := text[1:]
	if p.binary() {
		digits := digitsOf(rest)
		if rest = rest[len(digits):]; len(rest) == 0 || rest[0] != '-' {
			return p, errPacket
		}
		if p.attachments, err = attachments(digits); err != nil {
			return p, err
		}
		rest = rest[1:]
	}
	if len(rest) > 0 && rest[0] == '/' {
		name, behind, _ := bytes.Cut(rest, []byte(","))
		if len(name) > maxName || bytes.ContainsFunc(name, unicode.IsControl) { // U+001E would end a packet of ours
			return p, errPacket
		}
		p.namespace, rest = string(name), behind
	}
	digits := digitsOf(rest)
	if rest = rest[len(digits):]; len(rest) > 0 {
		p.payload = rest
	}
	if p.id, err = idOf(digits); err == nil {
		err = p.check()
	}
	return p, err
}

// digitsOf are the digits that b begins with.
func digitsOf(b []byte) []byte {
	n := slices.IndexFunc(b, func(c byte) bool { return c < '0' || c > '9' })
	if n < 0 {
		return b
	}
	return b[:n]
}

func attachments(digits []byte) (n int, _ error) {
	for _, c := range digits {
		if n = 10*n + int(c-'0'); n > maxAttachments {
			return 0, errPacket
		}
	}
	if n == 0 {
		return 0, errPacket
	}
	return n, nil
}

// idOf is an id as a client's library has it, which is a number.
func idOf(digits []byte) (string, error) {
	if len(digits) > maxID {
		return "", errPacket
	}
	id := bytes.TrimLeft(digits, "0")
	if len(id) == 0 && len(digits) > 0 {
		return "0", nil
	}
	return string(id), nil
}

// check reports whether the payload is what its kind asks for.
func (p *packet) check() error {
	if p.payload != nil && !json.Valid(p.payload) {
		return errPacket
	}
	begins := byte(0) // what JSON begins with says what it is
	if p.payload != nil {
		begins = bytes.TrimLeft(p.payload, " \t\r\n")[0]
	}
	ok := false
	switch p.kind {
	case kindConnect:
		ok = begins == 0 || begins == '{'
	case kindDisconnect:
		ok = begins == 0
	case kindEvent, kindBinaryEvent:
		ok = begins == '[' && p.named()
	case kindAck, kindBinaryAck:
		ok = begins == '['
	case kindConnectError:
		ok = begins == '{' || begins == '"'
	}
	if !ok {
		return errPacket
	}
	return nil
}

// named reports whether an event's first element can be its name.
func (p *packet) named() bool {
	list := p.arguments(1)
	if len(list) == 0 {
		return false
	}
	switch c := list[0][0]; c {
	case '"':
		return !slices.Contains(reserved, text(list[0]))
	default:
		return c == '-' || '0' <= c && c <= '9'
	}
}

// arguments are the first elements of a payload that is an array: a long list takes
// many times the memory of its text.
func (p *packet) arguments(most int) (list []json.RawMessage) {
	decoder := json.NewDecoder(bytes.NewReader(p.payload))
	_, _ = decoder.Token() // check has seen to it that it is an array
	for len(list) < most && decoder.More() {
		var element json.RawMessage
		if decoder.Decode(&element) != nil {
			break
		}
		list = append(list, element)
	}
	return list
}

// text is a JSON string's.
func text(raw json.RawMessage) (s string) {
	_ = json.Unmarshal(raw, &s) // what is none is ""
	return s
}

// appendHeader appends what comes before the payload.
func appendHeader(b []byte, k kind, namespace, id string) []byte {
	b = append(b, '0'+byte(k))
	if namespace != root {
		b = append(append(b, namespace...), ',')
	}
	return append(b, id...)
}

// appendJSON appends v as the platform's own JSON has it: an event's bytes stay what
// they are.
func appendJSON(b []byte, v any) []byte {
	var m bytes.Buffer
	encoder := json.NewEncoder(&m)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic("socketio: unencodable message: " + err.Error()) // strings, numbers, cursors, and JSON that was read
	}
	return append(b, bytes.TrimSuffix(m.Bytes(), []byte("\n"))...)
}
