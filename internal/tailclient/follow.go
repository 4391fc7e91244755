package tailclient

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"time"
)

// The pause before the n-th try is drawn from [0, minPause × 2^n), at most
// maxPause: clients that were cut together do not come back together.
const minPause, maxPause = 500 * time.Millisecond, 30 * time.Second

// Config says what to follow.
type Config struct {
	// URL is an instance, or what stands before several: http(s)://host:port.
	URL string
	// Token is asked for at every connection, so that it may be renewed.
	Token func(context.Context) (string, error)
	// CompanyID is needed with a platform-wide token of a service.
	CompanyID string
	// Namespaces to follow; none is all of the catalogue.
	Namespaces []string
	// Rooms to follow in each; none is all that the token covers.
	Rooms []string
	// From is a cursor, "earliest" or "now"; empty is now.
	From string
	// Name and Version tell the operators which client this is.
	Name, Version string
}

// Follow yields what happens until ctx ends, which is no error, or the server
// says not to come back, which is the one error it yields, last.
func Follow(ctx context.Context, c Config) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		f := &follower{Config: c, cursor: c.From}
		for {
			err := f.connect(ctx, yield)
			if ctx.Err() != nil || errors.Is(err, errEnough) {
				return
			}
			end := f.judge(ctx, err)
			if !end.again {
				yield(Message{}, end)
				return
			}
			pause := max(f.pause(), end.after)
			if !yield(Message{Type: Disconnected, Cursor: f.cursor, Err: end, Delay: pause}, nil) || !sleep(ctx, pause) {
				return
			}
		}
	}
}

// follower is a Follow under way.
type follower struct {
	Config
	cursor string // everything up to here was taken by the caller
	token  string // the one last used
	failed int    // connections in a row that did not get to be live
}

func (f *follower) pause() time.Duration {
	f.failed = min(f.failed+1, 10) // beyond, maxPause rules anyway
	return rand.N(min(minPause<<(f.failed-1), maxPause))
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
