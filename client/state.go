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

// State is what a stream has come to: the data of its events, merged (JSON merge
// patch, RFC 7396).
type State struct {
	CompanyID string          `json:"companyId"`
	Namespace string          `json:"namespace"`
	Stream    string          `json:"stream"`
	Version   int64           `json:"version"` // of the last event that is in it
	State     json.RawMessage `json:"state"`
	Open      bool            `json:"open"` // no event has closed the stream
	Rooms     []string        `json:"rooms"`
	UpdatedAt time.Time       `json:"updatedAt"`
	// Incomplete says that the data of some event would have made it too large.
	Incomplete bool `json:"incomplete"`
}

// Snapshot is a page of the state that all following events come behind. If the
// connection breaks before the last page, it comes again from the first.
type Snapshot struct {
	Namespace string
	States    []State
	Cursor    string // what they are true at
	First     bool   // what came before is void
	More      bool   // another page follows
}

// StateQuery says what State lists; the zero StateQuery is all that the token
// covers.
type StateQuery struct {
	Namespaces []string // any of them
	Rooms      []string // any of them
	Stream     string   // how the names begin, such as "order:"
	Open       *bool    // open or closed only
	AsOf       string   // a cursor or a time (RFC 3339); "" is now
	Limit      int      // of a page; 0: the server's
	After      string   // the Next of the page before
}

// States is a page of states.
type States struct {
	Cursor string  `json:"cursor"` // what they are true at
	States []State `json:"states"`
	More   bool    `json:"more"`
	Next   string  `json:"next"` // for the next page, if there is More
}

// State reads the present state of streams, or that of another time. To go on
// live without a seam, begin with Config.From at the page's Cursor.
func (s Server) State(ctx context.Context, q StateQuery) (States, error) {
	query := s.query(url.Values{"namespace": q.Namespaces, "room": q.Rooms},
		"stream", q.Stream, "asOf", q.AsOf, "after", q.After)
	if q.Open != nil {
		query.Set("open", strconv.FormatBool(*q.Open))
	}
	if q.Limit > 0 {
		query.Set("limit", strconv.Itoa(q.Limit))
	}
	var page States
	err := s.do(ctx, request{method: http.MethodGet, path: "/v1/state", query: query}, &page)
	return page, err
}

// Asked is a request, and what became of it.
type Asked struct {
	CorrelationID string    `json:"correlationId"`
	Status        string    `json:"status"` // "pending", "answered" or "expired"
	Request       Event     `json:"request"`
	Reply         *Event    `json:"reply"` // nil while there is none
	ReplyBy       time.Time `json:"replyBy"`
}

// RequestQuery says what Requests lists.
type RequestQuery struct {
	Status string   // "pending", "answered" or "expired"; "" is all
	Rooms  []string // any of them
	Types  []string // any of them
}

// Requests yields requests. An error is the last it yields.
func (s Server) Requests(ctx context.Context, q RequestQuery) iter.Seq2[Asked, error] {
	return func(yield func(Asked, error) bool) {
		query := s.query(url.Values{"room": q.Rooms, "type": q.Types}, "status", q.Status)
		for {
			var page struct {
				Requests []Asked `json:"requests"`
				More     bool    `json:"more"`
				Next     string  `json:"next"`
			}
			if err := s.do(ctx, request{method: http.MethodGet, path: "/v1/requests", query: query}, &page); err != nil {
				yield(Asked{}, err)
				return
			}
			for _, r := range page.Requests {
				if !yield(r, nil) {
					return
				}
			}
			if !page.More || page.Next == "" {
				return
			}
			query.Set("after", page.Next)
		}
	}
}
