package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/jsonvalue"
	"github.com/tailroom/tailroom/internal/problem"
)

// explain shows the log's errors as a publisher may see them.
func explain(err error, drafts []event.Draft) error {
	if conflict, ok := errors.AsType[*eventlog.VersionConflictError](err); ok {
		return versionConflict(conflict)
	}
	if reused, ok := errors.AsType[*eventlog.IDReusedError](err); ok {
		return problem.New(problem.IDReused, "an event with this id exists, with other content: "+
			"a retry must repeat the event, a new event needs a new id").
			With("index", reused.Index).With("id", drafts[reused.Index].ID)
	}
	if late, ok := errors.AsType[*eventlog.AlreadyAnsweredError](err); ok {
		p := problem.New(problem.AlreadyAnswered, "the request was answered already, by the event with this id: "+
			"the first answer is the one that counts").With("id", late.By)
		if len(drafts) > 1 {
			p = p.With("index", late.Index)
		}
		return p
	}
	if full, ok := errors.AsType[*eventlog.CrowdedError](err); ok {
		p := problem.New(problem.TooLarge, fmt.Sprintf("%d requests with this correlation id are open, and no more may be: "+
			"one answer answers them all, another request needs a correlation id of its own", eventlog.MaxOpen)).
			With("limit", eventlog.MaxOpen)
		if len(drafts) > 1 {
			p = p.With("index", full.Index)
		}
		return p
	}
	switch {
	case errors.Is(err, eventlog.ErrPartialDuplicate):
		return problem.New(problem.PartialDuplicate, "some events of the group are published already, others are not: "+
			"a retry must repeat the whole group")
	case errors.Is(err, eventlog.ErrOverloaded):
		return problem.New(problem.Overloaded, "too many publishes wait for the log; nothing of this one was published").
			RetryAfter(time.Second)
	case errors.Is(err, eventlog.ErrNoPartition):
		return problem.New(problem.Unavailable, "the log has no partition to write to, and nothing of this was published: "+
			"an operator must look, with `tailroom partitions list`").
			With("ids", ids(drafts)).RetryAfter(time.Second)
	case errors.Is(err, eventlog.ErrUnavailable):
		return problem.New(problem.Unavailable, "the log did not answer in time; publish again with the same ids to be sure").
			With("ids", ids(drafts)).RetryAfter(time.Second)
	case errors.Is(err, eventlog.ErrRefused):
		return jsonvalue.Refuse(jsonvalue.Violation{Message: "PostgreSQL cannot store a value of the event"})
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return problem.New(problem.Unavailable, "the request ended before the log answered").RetryAfter(time.Second)
	}
	slog.Error("a publish failed", "component", "publish", "error", err)
	return err
}

// ids are what to publish again with: whoever gave none learns them here.
func ids(drafts []event.Draft) []string {
	list := make([]string, len(drafts))
	for i := range drafts {
		list[i] = drafts[i].ID.String()
	}
	return list
}

func versionConflict(e *eventlog.VersionConflictError) *problem.Error {
	type conflict struct {
		Index           int    `json:"index"`
		Namespace       string `json:"namespace"`
		Stream          string `json:"stream"`
		ExpectedVersion int64  `json:"expectedVersion"`
		CurrentVersion  int64  `json:"currentVersion"`
	}
	list := make([]conflict, len(e.Conflicts))
	for i, c := range e.Conflicts {
		list[i] = conflict{c.Index, c.Namespace, c.Stream, c.Expected, c.Current}
	}
	p := problem.New(problem.VersionConflict, e.Error()).With("conflicts", list)
	if len(list) == 1 {
		p = p.With("currentVersion", list[0].CurrentVersion)
	}
	return p
}
