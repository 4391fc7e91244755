package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/publish"
)

const (
	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"
)

// publish answers POST /v1/events.
func (a *api) publish(w http.ResponseWriter, r *http.Request) error {
	grant, err := a.grant(r)
	if err != nil {
		return err
	}
	if err := plain(r); err != nil {
		return err
	}
	switch mediaType(r) {
	case typeJSON:
		return a.publishGroup(w, r, grant)
	case typeNDJSON, "application/ndjson":
		return a.publishLines(w, r, grant)
	default:
		return problem.New(problem.UnsupportedMedia, "the body is JSON, or NDJSON for many groups").
			With("allowed", []string{typeJSON, typeNDJSON})
	}
}

// mediaType is what a request says that its body is; JSON, if it says nothing.
func mediaType(r *http.Request) string {
	declared := r.Header.Get("Content-Type")
	if declared == "" {
		return typeJSON
	}
	kind, _, err := mime.ParseMediaType(declared)
	if err != nil {
		return declared
	}
	return kind
}

func (a *api) publishGroup(w http.ResponseWriter, r *http.Request, grant access.Grant) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.MaxBody))
	if err != nil {
		return a.bodyError(err)
	}
	events, err := group(body)
	if err != nil {
		return err
	}
	pending, err := a.Publisher.Submit(grant, nil, events)
	if err != nil {
		return err
	}
	receipts, err := pending.Wait(r.Context())
	if err != nil {
		return err
	}
	answer, err := json.Marshal(published{Events: publish.Results(receipts)}) //nolint:musttag // a cursor is a text
	if err != nil {
		return err
	}
	writeJSON(w, publishedStatus(receipts), answer)
	return nil
}

type published struct {
	Events []publish.Result `json:"events"`
}

// publishedStatus is 201, or 200 when all were in the log already.
func publishedStatus(receipts []event.Receipt) int {
	for _, r := range receipts {
		if !r.Duplicate {
			return http.StatusCreated
		}
	}
	return http.StatusOK
}

// group is the events of a body or line: one object or an array of them.
func group(body []byte) ([]json.RawMessage, error) {
	body = bytes.TrimLeft(body, " \t\r\n")
	if len(body) > 0 && body[0] != '[' {
		if !json.Valid(body) {
			return nil, invalidJSON(body)
		}
		return []json.RawMessage{body}, nil
	}
	var events []json.RawMessage
	if err := json.Unmarshal(body, &events); err != nil {
		return nil, invalidJSON(body)
	}
	return events, nil
}

// invalidJSON says where the JSON goes wrong.
func invalidJSON(body []byte) error {
	detail := "the body is empty"
	if len(body) > 0 {
		detail = "the body is not valid JSON"
	}
	var ignored json.RawMessage
	if syntax, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(body, &ignored)); ok && len(body) > 0 {
		detail = fmt.Sprintf("the body is not valid JSON: %s, at byte %d", syntax.Error(), syntax.Offset)
	}
	return problem.New(problem.InvalidJSON, detail)
}

func (a *api) bodyError(err error) error {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		a.Limits.Hit(limit.MessageBytes)
		return problem.New(problem.TooLarge, "the body is too large; many events go as NDJSON").With("limit", tooLarge.Limit)
	}
	return a.broken(err)
}
