package socketio

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
)

// What a client says when it comes back: the pid of before, which the library keeps
// and brings by itself, and the offset, the last argument of the newest event it
// has heard. Both are places in the log, and the greater one counts.

const (
	// sidBytes is how many random bytes a socket's public id is made of.
	sidBytes = 15
	// pidVersion is the first byte of a pid.
	pidVersion = 1
	// macBytes is how much of a pid's HMAC-SHA256 there is.
	macBytes = 16
	// offsetPrefix is what an offset begins with, and before a cursor.
	offsetPrefix = "p"
)

// encoding is how ids and pids are written.
var encoding = base64.RawURLEncoding.Strict()

// owner is whom a pid is for. To anybody else it is no pid.
type owner struct {
	grant     access.Grant
	namespace string
}

// claim is what a pid says: nothing that would be a right. Whoever brings it has
// shown a token before.
type claim struct {
	sid    string       // of the socket
	cursor event.Cursor // where it began
	issued time.Time
}

// newSID makes a public id: of 120 random bits, in 20 characters.
func newSID() string {
	var b [sidBytes]byte
	_, _ = rand.Read(b[:]) // it never fails
	return encoding.EncodeToString(b[:])
}

// sealer makes pids and reads them. The first of its keys signs, all verify.
type sealer [][]byte

// seal makes the pid of c.
func (s sealer) seal(c claim, o owner) string {
	sid, err := encoding.DecodeString(c.sid)
	if err != nil || len(sid) != sidBytes {
		panic("socketio: an id that is not of newSID")
	}
	b := append([]byte{pidVersion}, sid...)
	b = binary.AppendUvarint(b, uint64(c.cursor.Epoch))
	b = binary.AppendUvarint(b, uint64(c.cursor.Position))
	b = binary.AppendUvarint(b, uint64(c.issued.Unix()))
	return encoding.EncodeToString(append(b, mac(s[0], b, o)...))
}

// open reads a pid. It reports false for what is none, or another's, and then says nothing
// of it: public ids are no secrets, and whoever has one can write a pid around it.
func (s sealer) open(pid string, o owner) (c claim, ok bool) {
	b, err := encoding.DecodeString(pid)
	if err != nil || len(b) < 1+sidBytes+macBytes || b[0] != pidVersion {
		return c, false
	}
	b, signature := b[:len(b)-macBytes], b[len(b)-macBytes:]
	if !slices.ContainsFunc(s, func(key []byte) bool { return hmac.Equal(signature, mac(key, b, o)) }) {
		return c, false
	}
	c.sid = encoding.EncodeToString(b[1 : 1+sidBytes])
	rest := b[1+sidBytes:]
	for _, to := range [...]func(int64){
		func(n int64) { c.cursor.Epoch = n },
		func(n int64) { c.cursor.Position = n },
		func(n int64) { c.issued = time.Unix(n, 0) },
	} {
		n, length := binary.Uvarint(rest)
		if length <= 0 {
			return claim{}, false
		}
		to(int64(n))
		rest = rest[length:]
	}
	return c, len(rest) == 0
}

// mac signs a pid for its owner, each of whose names is preceded by its length.
func mac(key, pid []byte, o owner) []byte {
	h := hmac.New(sha256.New, key)
	for _, name := range [...]string{string(pid), o.grant.Subject, o.grant.Tenant, o.grant.Narrowed, o.namespace} {
		_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(name))))
		_, _ = h.Write([]byte(name))
	}
	return h.Sum(nil)[:macBytes]
}

// appendOffset appends c as a client is to bring it back.
func appendOffset(b []byte, c event.Cursor) []byte {
	return c.Append(append(b, offsetPrefix...))
}

// parseOffset reads an offset. Any text that an application sends last can have taken
// its place: what is none is no error.
func parseOffset(offset string) (event.Cursor, bool) {
	cursor, ok := strings.CutPrefix(offset, offsetPrefix)
	if !ok {
		return event.Cursor{}, false
	}
	c, err := event.ParseCursor(cursor)
	return c, err == nil
}
