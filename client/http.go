package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Publish publishes a group, whole or not at all, and returns a receipt for each
// event when they are durable. It tries until there is an answer: each event has
// its id before it is first sent, so that it is published once. If ctx ends before
// there is an answer, the group may be in the log or not; whoever wants to try
// again later gives the drafts ids himself.
func (s Server) Publish(ctx context.Context, drafts ...Draft) ([]Receipt, error) {
	list, err := s.complete(drafts)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Events []Receipt `json:"events"`
	}
	err = s.do(ctx, request{method: http.MethodPost, path: "/v1/events", body: list}, &answer)
	return answer.Events, err
}

// Query says what History lists; the zero Query is all that the token covers.
type Query struct {
	After         string   // a cursor; "" is the beginning
	Before        string   // a cursor; "" is the end
	Namespaces    []string // any of them
	Types         []string // any of them
	Rooms         []string // any of them
	Stream        string
	CorrelationID string
	From, To      time.Time // recorded at or after From, and before To
	Descending    bool
}

// historyPage is how many events are read at a time.
const historyPage = 1000

// History yields the events of the past, page by page. An error is the last it
// yields; ErrCursorExpired and ErrCursorDiverged have the field "resume".
func (s Server) History(ctx context.Context, q Query) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		query := s.query(url.Values{"namespace": q.Namespaces, "type": q.Types, "room": q.Rooms, "limit": {strconv.Itoa(historyPage)}},
			"after", q.After, "before", q.Before, "stream", q.Stream, "correlationId", q.CorrelationID,
			"from", stamp(q.From), "to", stamp(q.To))
		next := "after"
		if q.Descending {
			query.Set("order", "desc")
			next = "before"
		}
		for {
			var page struct {
				Events []json.RawMessage `json:"events"`
				Cursor string            `json:"cursor"`
				More   bool              `json:"more"`
			}
			if err := s.do(ctx, request{method: http.MethodGet, path: "/v1/events", query: query}, &page); err != nil {
				yield(Event{}, err)
				return
			}
			for _, raw := range page.Events {
				if e, err := parseEvent(raw); !yield(e, err) || err != nil {
					return
				}
			}
			if !page.More {
				return
			}
			query.Set(next, page.Cursor)
		}
	}
}

// query adds pairs of names and values, those that are not empty, and the company.
func (s Server) query(values url.Values, pairs ...string) url.Values {
	pairs = append(pairs, "companyId", s.CompanyID)
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	return values
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func parseEvent(raw json.RawMessage) (Event, error) {
	e := Event{Raw: raw}
	err := json.Unmarshal(raw, &e)
	return e, err
}
