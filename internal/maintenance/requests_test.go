package maintenance

import (
	"fmt"
	"testing"
)

// Events that have become requests are taken in, however many, without anybody's doing.
func TestRequests_OfThePastAreTakenIn(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1000)
	mirror := func(reply string) {
		r.exec(t, fmt.Sprintf(`SELECT tailroom.mirror_catalogue('[{"namespace":"/orders","type":"newOrder","schema_version":1,"description":"",
			"publish":[],"rooms":[],"schema":{}%s}]', 262144)`, reply))
	}
	mirror("")
	const events = 2*requestsTaken + 1
	r.exec(t, `SELECT tailroom.append('c1', '/orders', 'newOrder', '{}', '{branch:b1}', reply_by => now()) FROM generate_series(1, $1::integer)`, events)
	mirror(`,"reply":{"type":"done","timeoutMs":1000}`)
	r.keeper(t, r.dsn, Policy{}, often)
	eventually(t, func() bool { return value[int](t, r, "SELECT count(*) FROM tailroom.requests WHERE open") == events })
	eventually(t, func() bool { return value[bool](t, r, "SELECT requests_from IS NULL FROM tailroom.log") })
}
