package wire

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"sync"
)

// Opcodes of RFC 6455, section 5.2.
const (
	Text = 0x1
	Ping = 0x9
	Pong = 0xA
)

const (
	finBit  = 0x80
	rsv1Bit = 0x40 // compressed, RFC 7692
	// maxHeader is the length of the longest header of an unmasked frame.
	maxHeader = 10
)

// AppendHeader appends the header of a whole, unmasked message.
func AppendHeader(b []byte, opcode byte, compressed bool, length int) []byte {
	first := finBit | opcode
	if compressed {
		first |= rsv1Bit
	}
	switch {
	case length < 126:
		return append(b, first, byte(length))
	case length < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, first, 126), uint16(length))
	default:
		return binary.BigEndian.AppendUint64(append(b, first, 127), uint64(length))
	}
}

// AppendText appends a text frame whose payload build appends. The header is
// written when its length is known, in the room that was left for it.
func AppendText(b []byte, build func([]byte) []byte) []byte {
	start := len(b)
	b = build(append(b, make([]byte, maxHeader)...))
	length := len(b) - start - maxHeader
	var header [maxHeader]byte
	h := AppendHeader(header[:0], Text, false, length)
	copy(b[start:], h)
	if len(h) < maxHeader {
		n := copy(b[start+len(h):], b[start+maxHeader:])
		b = b[:start+len(h)+n]
	}
	return b
}

var deflaters sync.Pool // of *flate.Writer

func deflater(out *bytes.Buffer) *flate.Writer {
	if w, ok := deflaters.Get().(*flate.Writer); ok {
		w.Reset(out)
		return w
	}
	w, err := flate.NewWriter(out, flate.DefaultCompression)
	if err != nil {
		panic(err) // the level is valid
	}
	return w
}

// DeflatedText is a text frame with a compressed payload. Each message is
// compressed on its own (no context takeover), so that all sockets can share it.
func DeflatedText(payload []byte) []byte {
	var out bytes.Buffer
	w := deflater(&out)
	defer deflaters.Put(w)
	_, _ = w.Write(payload) // a bytes.Buffer does not fail
	_ = w.Flush()
	// RFC 7692, section 7.2.1: the last four bytes of the flush are implied.
	body := out.Bytes()[:out.Len()-4]
	return append(AppendHeader(make([]byte, 0, maxHeader+len(body)), Text, true, len(body)), body...)
}
