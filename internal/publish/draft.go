package publish

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/catalog"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/jsonvalue"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/problem"
)

// draft makes d of one event.
func (d *Desk) draft(grant access.Grant, raw []byte, now time.Time, draft *event.Draft) error {
	in, err := parse(raw)
	if err != nil {
		return err
	}
	if grant, err = grant.Name(in.CompanyID); err != nil {
		return err
	}
	if grant.Tenant == "" {
		return invalid("companyId", "a platform-wide token must name the company: companyId")
	}
	typ, err := d.catalog.Lookup(in.Namespace, in.Type)
	if err != nil {
		return err
	}
	if !typ.MayPublish(grant.Role) {
		return problem.New(problem.Forbidden, "the role "+string(grant.Role)+" may not publish "+typ.Name).
			With("allowed", publishers(typ))
	}
	if in.SchemaVersion != nil && *in.SchemaVersion != typ.SchemaVersion {
		return invalid("schemaVersion", fmt.Sprintf("%s is at schema version %d", typ.Name, typ.SchemaVersion)).
			With("allowed", []int{typ.SchemaVersion})
	}
	*draft = event.Draft{
		Tenant: grant.Tenant, Namespace: in.Namespace, Type: typ.Name, SchemaVersion: typ.SchemaVersion,
		Actor: grant.Actor(), Data: in.Data,
	}
	if err := in.fill(draft, now); err != nil {
		return err
	}
	if err := d.content(grant, typ, in, draft); err != nil {
		return err
	}
	mark(draft, typ)
	return nil
}

// mark tells the log what d has to do with requests.
func mark(d *event.Draft, typ *catalog.Type) {
	d.Awaits, d.MayAnswer = typ.Awaits(), typ.MayAnswer(d.Data)
}

// publishers are the roles that may publish a type.
func publishers(typ *catalog.Type) []access.Role {
	return slices.DeleteFunc(slices.Clone(access.Roles), func(r access.Role) bool { return !typ.MayPublish(r) })
}

// content judges the data and what is derived from it: rooms and stream.
func (d *Desk) content(grant access.Grant, typ *catalog.Type, in *input, draft *event.Draft) error {
	if len(in.Data) == 0 {
		return jsonvalue.Refuse(jsonvalue.Violation{Message: "data is missing; it is a JSON object"})
	}
	if err := jsonvalue.Check(in.Data, d.maxEvent); err != nil {
		d.hit(err)
		return err
	}
	value, err := typ.Validate(in.Data)
	if err != nil {
		return err
	}
	rooms := in.Rooms
	if rooms == nil {
		if rooms, err = typ.RoomsFor(grant.Tenant, value); err != nil {
			return err
		}
	}
	if len(rooms) > maxEventRooms {
		d.limits.Hit(limit.EventRooms)
	}
	if draft.Rooms, err = address(grant, rooms); err != nil {
		return err
	}
	if in.Stream != nil {
		draft.Stream = *in.Stream
		if !event.ValidStream(draft.Stream) {
			return invalid("stream", "a stream is {category}:{id}, at most 200 characters, none of them a control character")
		}
	} else if draft.Stream, err = typ.StreamFor(grant.Tenant, value); err != nil {
		return err
	}
	if in.ExpectedVersion == nil {
		return nil
	}
	switch {
	case draft.Stream == "":
		return invalid("expectedVersion", "expectedVersion needs a stream")
	case *in.ExpectedVersion < 0 || *in.ExpectedVersion > event.MaxPosition:
		return invalid("expectedVersion", "expectedVersion is 0 (the stream must not exist) or the version it has")
	}
	draft.ExpectedVersion = event.Expectation{Version: *in.ExpectedVersion, Set: true}
	return nil
}

// hit counts data that is too large or too deep.
func (d *Desk) hit(err error) {
	switch p := problem.From(err); {
	case p.Fields["limit"] == nil:
	case p.Code == problem.TooLarge:
		d.limits.Hit(limit.EventBytes)
	default:
		d.limits.Hit(limit.JSONDepth)
	}
}

// address returns the rooms in colon form, each once; all must lie in the
// grant.
func address(grant access.Grant, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, problem.New(problem.InvalidRoom, "rooms is empty: an event is addressed to at least one room").
			With("allowed", event.RoomForms)
	}
	if len(names) > maxEventRooms {
		return nil, problem.New(problem.TooLarge, fmt.Sprintf("an event is addressed to at most %d rooms", maxEventRooms)).
			With("limit", maxEventRooms)
	}
	rooms := make([]string, 0, len(names))
	for _, name := range names {
		room, err := grant.Room(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(rooms, room) {
			rooms = append(rooms, strings.Clone(room))
		}
	}
	return rooms, nil
}
