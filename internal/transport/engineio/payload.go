package engineio

import (
	"bytes"
	"encoding/base64"
	"errors"
	"iter"
)

// The types of packets.
const (
	openPacket    = '0'
	closePacket   = '1'
	pingPacket    = '2'
	pongPacket    = '3'
	messagePacket = '4'
	upgradePacket = '5'
	noopPacket    = '6'
	binaryPacket  = 'b' // a message in base64, where bytes cannot be sent
)

// separator stands between the packets of a payload. No text has it: JSON escapes it.
const separator = 0x1e

// packet is what a peer says. One that is binary is a message.
type packet struct {
	kind   byte
	binary bool
	data   []byte
}

var errPacket = errors.New("a packet begins with its type, a digit from 0 to 6, or with b and base64")

// parsePacket reads the text of one packet. What it returns shares memory with text.
func parsePacket(text []byte) (packet, error) {
	if len(text) == 0 {
		return packet{}, errPacket
	}
	switch kind := text[0]; kind {
	case binaryPacket:
		data := make([]byte, base64.StdEncoding.DecodedLen(len(text)-1))
		n, err := base64.StdEncoding.Decode(data, text[1:])
		if err != nil {
			return packet{}, errPacket
		}
		return packet{kind: messagePacket, binary: true, data: data[:n]}, nil
	case openPacket, closePacket, pingPacket, pongPacket, messagePacket, upgradePacket, noopPacket:
		return packet{kind: kind, data: text[1:]}, nil
	default:
		return packet{}, errPacket
	}
}

// packets gives out the packets of a payload up to the first that is none.
func packets(payload []byte) iter.Seq2[packet, error] {
	return func(yield func(packet, error) bool) {
		for more := true; more; {
			var text []byte
			text, payload, more = bytes.Cut(payload, []byte{separator})
			if p, err := parsePacket(text); !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// appendPacket appends a packet to a payload.
func appendPacket(payload []byte, kind byte, data []byte) []byte {
	if len(payload) > 0 {
		payload = append(payload, separator)
	}
	return append(append(payload, kind), data...)
}
