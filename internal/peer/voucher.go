package peer

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	// header has the voucher of a request between instances and, in the answer, what
	// became of it.
	header = "Tailroom-Peer"
	// leeway is how far the clocks of two instances may lie apart, the way included.
	leeway = 30 * time.Second
	// taken is the answer of who has believed a voucher.
	taken = "taken"
)

// voucher says of a request between instances who stands for it.
type voucher struct {
	from, to uuid.UUID
	at       time.Time  // in milliseconds
	once     [16]byte   // no two vouchers have the same
	client   netip.Addr // whose request it is; invalid: the instance's own
	body     []byte     // SHA-256 of the body; empty: it is the client's, and anything
}

// refusal is why a voucher is not believed.
type refusal string

const (
	badSignature refusal = "signature"
	badClock     refusal = "clock"
	repeated     refusal = "repeated"
	misdirected  refusal = "misdirected" // it is for another instance, or for a client of another
)

// refusals are all there are, with what the operator of a cluster should know.
var refusals = map[refusal]string{
	badSignature: "the request is not signed with a key of this cluster: all instances need the same CLUSTER_SECRET",
	badClock:     "the request is older or newer than 30 seconds: the clocks of the instances must agree",
	repeated:     "the request has been here before",
	misdirected:  "the request is for another instance: each must advertise an address of its own, TAILROOM_ADVERTISE_URL",
}

// Error makes a refusal an error.
func (r refusal) Error() string { return refusals[r] }

// verdict is what the header of an answer says: nil, if the voucher was believed.
func verdict(said string) error {
	switch _, known := refusals[refusal(said)]; {
	case said == taken:
		return nil
	case known:
		return refusal(said)
	}
	return errNobody
}

// newVoucher is a voucher of now.
func newVoucher(from, to uuid.UUID) voucher {
	s := voucher{from: from, to: to, at: time.Now()}
	_, _ = rand.Read(s.once[:]) // never fails
	return s
}

// text is the header's value without the signature.
func (s voucher) text() string {
	client := ""
	if s.client.IsValid() {
		client = s.client.String()
	}
	return strings.Join([]string{
		s.from.String(), s.to.String(), strconv.FormatInt(s.at.UnixMilli(), 10),
		encode(s.once[:]), client, encode(s.body),
	}, ";")
}

// sign returns the header's value for a request.
func (s voucher) sign(key []byte, method, uri string) string {
	text := s.text()
	return text + ";" + encode(mac(key, method, uri, text))
}

// openVoucher returns the voucher of a request if one of the keys has signed it.
func openVoucher(keys [][]byte, method, uri string, values []string) (voucher, error) {
	if len(values) != 1 {
		return voucher{}, badSignature
	}
	cut := strings.LastIndexByte(values[0], ';')
	text := values[0][:max(cut, 0)]
	signature, err := decode(values[0][cut+1:])
	if err != nil {
		return voucher{}, badSignature
	}
	for _, key := range keys {
		if hmac.Equal(signature, mac(key, method, uri, text)) {
			return parseVoucher(text)
		}
	}
	return voucher{}, badSignature
}

// parseVoucher reads what text has written.
func parseVoucher(text string) (s voucher, err error) {
	fields := strings.Split(text, ";")
	if len(fields) != 6 {
		return voucher{}, badSignature // of a version that writes another one
	}
	from, err1 := uuid.Parse(fields[0])
	to, err2 := uuid.Parse(fields[1])
	at, err3 := strconv.ParseInt(fields[2], 10, 64)
	once, err4 := decode(fields[3])
	body, err5 := decode(fields[5])
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil {
			return voucher{}, badSignature
		}
	}
	s = voucher{from: from, to: to, at: time.UnixMilli(at), body: body}
	copy(s.once[:], once)
	if fields[4] != "" {
		if s.client, err = netip.ParseAddr(fields[4]); err != nil {
			return voucher{}, badSignature
		}
	}
	return s, nil
}

// current reports whether the voucher is of now.
func (s voucher) current() bool { return time.Since(s.at).Abs() <= leeway }

// mac covers the request line and the voucher. No part of them has a line break.
func mac(key []byte, method, uri, text string) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write([]byte(method + "\n" + uri + "\n" + text))
	return h.Sum(nil)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func decode(s string) ([]byte, error) { return base64.RawURLEncoding.Strict().DecodeString(s) }
