package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/problem"
)

const (
	// maxName bounds what a subject, a token or a session is called, in characters.
	maxName = 255
	// maxReason bounds the words of an operator, in characters.
	maxReason = 1000
	// orderTimeout bounds the wait for the log.
	orderTimeout = 10 * time.Second
)

// Operator carries out what administrators order. The log tells of it.
type Operator interface {
	// Revoke revokes tokens, and returns the time before which they were issued.
	Revoke(ctx context.Context, r eventlog.Revocation) (before time.Time, _ eventlog.Told, _ error)
	// Disconnect ends sessions on every instance.
	Disconnect(ctx context.Context, o eventlog.Order, session string) (eventlog.Told, error)
}

// order is the body of both orders. Fields that are absent are nil.
type order struct {
	Subject   *string `json:"subject"`
	TokenID   *string `json:"tokenId"`
	Session   *string `json:"session"`
	Before    *string `json:"before"`
	CompanyID *string `json:"companyId"`
	Reason    *string `json:"reason"`
}

// revoke answers POST /v1/revocations.
func (a *api) revoke(w http.ResponseWriter, r *http.Request) error {
	o, body, err := a.order(w, r, "tokenId", "before")
	if err != nil {
		return err
	}
	revocation := eventlog.Revocation{Order: o, TokenID: text(body.TokenID)}
	if body.Before != nil {
		// Not in the years that PostgreSQL and JSON write in other ways.
		if revocation.Before, err = time.Parse(time.RFC3339, *body.Before); err != nil || revocation.Before.Year() < 1970 {
			return parameter("before", "before is an RFC 3339 time, such as 2026-01-31T18:30:00Z")
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), orderTimeout)
	defer cancel()
	before, told, err := a.Operator.Revoke(ctx, revocation)
	if errors.Is(err, eventlog.ErrTooManyRevocations) {
		a.Limits.Hit(limit.RevocationsPerCompany)
		return problem.New(problem.TooLarge, "the company has as many revocations as it may have, and this was not carried out: "+
			"revoke all tokens of a subject rather than each, or have the platform revoke it in every company").
			With("limit", eventlog.MaxRevocations)
	}
	if err != nil {
		return orderFailed(ctx, err)
	}
	answer := map[string]any{"subject": body.Subject, "tokenId": body.TokenID, "before": nil}
	if !before.IsZero() {
		answer["before"] = before.UTC().Format(event.TimeLayout)
	}
	return confirm(w, o, told, http.StatusCreated, answer)
}

// disconnect answers POST /v1/disconnections.
func (a *api) disconnect(w http.ResponseWriter, r *http.Request) error {
	o, body, err := a.order(w, r, "session")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), orderTimeout)
	defer cancel()
	told, err := a.Operator.Disconnect(ctx, o, text(body.Session))
	if err != nil {
		return orderFailed(ctx, err)
	}
	return confirm(w, o, told, http.StatusCreated, map[string]any{"subject": body.Subject, "session": body.Session})
}

// order reads an administrator's order, which is about a subject or about what the
// field other names.
func (a *api) order(w http.ResponseWriter, r *http.Request, other string, more ...string) (eventlog.Order, order, error) {
	var body order
	grant, err := a.grant(r)
	if err != nil {
		return eventlog.Order{}, body, err
	}
	if !grant.MayOperate() {
		return eventlog.Order{}, body, problem.New(problem.Forbidden, "only administrators of a whole company, or of all, may do this").
			With("allowed", []access.Role{access.Admin})
	}
	if err := plain(r); err != nil {
		return eventlog.Order{}, body, err
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.MaxBody))
	if err != nil {
		return eventlog.Order{}, body, a.bodyError(err)
	}
	if grant, err = a.grant(r); err != nil { // the body has taken its time, and the token may be revoked by now
		return eventlog.Order{}, body, err
	}
	if err := strictly(raw, &body, append([]string{"companyId", "reason", "subject", other}, more...)); err != nil {
		return eventlog.Order{}, body, err
	}
	named := map[string]*string{"subject": body.Subject, "tokenId": body.TokenID, "session": body.Session}
	if (body.Subject == nil) == (named[other] == nil) {
		return eventlog.Order{}, body, parameter("subject", "name either the subject or "+other).With("allowed", []string{"subject", other})
	}
	for name, value := range named {
		if value != nil && !printable(*value, maxName) {
			return eventlog.Order{}, body, parameter(name, name+" is 1 to 255 printable characters")
		}
	}
	if err := judgeReason(body.Reason); err != nil {
		return eventlog.Order{}, body, err
	}
	if grant, err = grant.Name(text(body.CompanyID)); err != nil {
		return eventlog.Order{}, body, err
	}
	if !grant.PlatformWide { // the platform's administrators are not to be kept out by a company's
		if err := a.Limits.Order(grant.Tenant); err != nil {
			return eventlog.Order{}, body, err
		}
	}
	return eventlog.Order{
		Tenant: grant.Tenant, Subject: text(body.Subject), Reason: text(body.Reason), Actor: grant.Actor(),
	}, body, nil
}

// strictly reads an order, a JSON object. A field that is not allowed is an error: with a
// slip of the pen, an order would mean more than was meant.
func strictly(raw []byte, to *order, allowed []string) error {
	var fields map[string]json.RawMessage
	if !json.Valid(raw) || !utf8.Valid(raw) {
		return invalidJSON(raw)
	}
	if err := json.Unmarshal(raw, &fields); err != nil || fields == nil {
		return parameter("", "the body is a JSON object")
	}
	slices.Sort(allowed)
	for name := range fields {
		if !slices.Contains(allowed, name) {
			return parameter(name, "there is no such field").With("allowed", allowed)
		}
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](json.Unmarshal(raw, to)); ok {
		return parameter(wrong.Field, wrong.Field+" is a text")
	}
	return nil
}

// judgeReason refuses what cannot be a reason; nil is none.
func judgeReason(reason *string) error {
	if reason != nil &&
		(strings.TrimSpace(*reason) == "" || utf8.RuneCountInString(*reason) > maxReason || strings.ContainsRune(*reason, 0)) {
		return parameter("reason", "reason is 1 to 1000 characters that say why; it stays in the log for ever")
	}
	return nil
}

func printable(s string, most int) bool {
	return s != "" && utf8.RuneCountInString(s) <= most && !strings.ContainsFunc(s, unicode.IsControl)
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// orderFailed says what has become of an order that was not confirmed. To give it
// again does no harm.
func orderFailed(ctx context.Context, err error) error {
	if errors.Is(err, eventlog.ErrOrder) {
		return problem.New(problem.InvalidParameter, err.Error())
	}
	slog.WarnContext(ctx, "an order could not be carried out", "component", "api", "error", err)
	return problem.New(problem.Unavailable, "the log did not confirm it in time, and it may or may not be in force: order it again").
		RetryAfter(time.Second)
}

// confirm answers with what the log tells of an order from now on.
func confirm(w http.ResponseWriter, o eventlog.Order, told eventlog.Told, status int, answer map[string]any) error {
	answer["companyId"], answer["reason"], answer["actor"] = nil, nil, o.Actor
	if o.Tenant != "" {
		answer["companyId"] = o.Tenant
	}
	if o.Reason != "" {
		answer["reason"] = o.Reason
	}
	answer["cursor"], answer["recordedAt"] = told.Cursor, told.RecordedAt.UTC().Format(event.TimeLayout)
	return answerJSON(w, status, answer)
}
