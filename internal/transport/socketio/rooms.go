package socketio

import (
	"encoding/json"

	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/session"
)

// move joins or leaves a room that the grant covers. The acknowledgement is sent before the first
// event that the change lets through.
func (s *socket) move(e emit, arguments []json.RawMessage) error {
	room, err := roomOf(arguments)
	if err != nil {
		return err
	}
	list := []session.Subscription{{Namespace: s.namespace, Rooms: []string{room}}}
	s.session.Do(func() (err error) {
		if e.name == "join" {
			err = s.session.Subscribe(s.ctx, list)
		} else if err = s.session.Unsubscribe(list); err == nil {
			list[0].Rooms = []string{} // who has left his last room is in the namespace all the same
			err = s.session.Subscribe(s.ctx, list)
		}
		if err != nil {
			e.fail(err)
			return nil
		}
		e.done(map[string]any{"rooms": s.session.Joined()[s.namespace]})
		return nil
	})
	return nil
}

// roomOf is the room that is named: a text, or an object's.
func roomOf(arguments []json.RawMessage) (room string, _ error) {
	if len(arguments) == 1 {
		room = text(arguments[0])
		var named struct {
			Room string `json:"room"`
		}
		if room == "" && json.Unmarshal(arguments[0], &named) == nil {
			room = named.Room
		}
	}
	if room == "" {
		return "", problem.New(problem.InvalidMessage, `a room is missing: emit("join", {room: "branch:7"})`).With("path", "room")
	}
	return room, nil
}
