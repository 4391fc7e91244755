package publish

import (
	"math"

	"github.com/tailroom/tailroom/internal/catalog"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/jsonvalue"
	"github.com/tailroom/tailroom/internal/problem"
)

// Judge returns the judge of what is published with SQL: of what SQL could not
// judge, and by this instance's catalogue. The size was judged by SQL, and whoever
// may execute tailroom.publish may publish every type.
//
// It returns a code of the protocol and a sentence, or an empty code. An event
// that it accepts gets the type's present schema version and its place among the
// requests and answers, as one that is published over HTTP.
func Judge(types *catalog.Catalog) func(*event.Draft) (code, reason string) {
	judge := func(d *event.Draft) error {
		typ, err := types.Lookup(d.Namespace, d.Type)
		if err != nil {
			return err
		}
		if err := jsonvalue.Check(d.Data, math.MaxInt); err != nil {
			return err
		}
		d.SchemaVersion = typ.SchemaVersion
		mark(d, typ)
		_, err = typ.Validate(d.Data)
		return err
	}
	return func(d *event.Draft) (code, reason string) {
		err := judge(d)
		if err == nil {
			return "", ""
		}
		refusal := problem.From(err)
		return string(refusal.Code), refusal.Detail
	}
}
