package event

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// TimeLayout is how times are written: RFC 3339 in UTC with microseconds,
// the precision PostgreSQL keeps.
const TimeLayout = "2006-01-02T15:04:05.000000Z"

// appendEnvelope appends the public JSON form of e, compact, fields in the
// protocol's order, and returns where in it the data begins.
func (e *Event) appendEnvelope(b []byte) (out []byte, dataAt int) {
	b = append(b, `{"cursor":"`...)
	b = e.Cursor.Append(b)
	b = append(b, `","position":`...)
	b = strconv.AppendInt(b, e.Cursor.Position, 10)
	b = append(b, `,"id":"`...)
	b = append(b, e.ID.String()...)
	b = append(b, `","namespace":`...)
	b = AppendString(b, e.Namespace)
	b = append(b, `,"type":`...)
	b = AppendString(b, e.Type)
	b = append(b, `,"schemaVersion":`...)
	b = strconv.AppendInt(b, int64(e.SchemaVersion), 10)
	b = append(b, `,"companyId":`...)
	b = AppendString(b, e.Tenant)
	b = append(b, `,"rooms":[`...)
	for i, room := range e.Rooms {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendString(b, room)
	}
	if e.Stream == "" {
		b = append(b, `],"stream":null,"version":null`...)
	} else {
		b = append(b, `],"stream":`...)
		b = AppendString(b, e.Stream)
		b = append(b, `,"version":`...)
		b = strconv.AppendInt(b, e.Version, 10)
	}
	b = append(b, `,"occurredAt":`...)
	b = appendTime(b, e.OccurredAt)
	b = append(b, `,"recordedAt":`...)
	b = appendTime(b, e.RecordedAt)
	b = append(b, `,"actor":`...)
	b = appendStringOrNull(b, e.Actor)
	b = append(b, `,"correlationId":`...)
	b = AppendString(b, e.CorrelationID)
	if e.CausationID.Valid {
		b = append(b, `,"causationId":"`...)
		b = append(b, e.CausationID.UUID.String()...)
		b = append(b, '"')
	} else {
		b = append(b, `,"causationId":null`...)
	}
	b = append(b, `,"replyBy":`...)
	b = appendTime(b, e.ReplyBy)
	b = append(b, `,"data":`...)
	dataAt = len(b)
	b = append(b, e.Data...)
	return append(b, '}'), dataAt
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, "null"...)
	}
	b = append(b, '"')
	b = t.UTC().AppendFormat(b, TimeLayout)
	return append(b, '"')
}

func appendStringOrNull(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return AppendString(b, s)
}

// AppendString appends s as a JSON string, escaping only what JSON requires.
// Invalid UTF-8 becomes U+FFFD.
func AppendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r)
			i += size
			continue
		}
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
		i++
	}
	return append(b, '"')
}

// Compact removes the insignificant white space of src, which must be valid
// JSON, in place. PostgreSQL prints jsonb with spaces; the wire has none.
func Compact(src []byte) []byte {
	out := src[:0]
	inString := false
	for i := 0; i < len(src); i++ {
		c := src[i]
		switch {
		case inString && c == '\\':
			out = append(out, c, src[i+1])
			i++
			continue
		case c == '"':
			inString = !inString
		case !inString && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			continue
		}
		out = append(out, c)
	}
	return out
}
