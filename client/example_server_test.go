package client_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/tailroom/tailroom/client"
	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
)

// example is what stands in for the test in an Example: it has none.
type example struct {
	testing.TB

	cleanups []func()
}

func (*example) Helper()                  {}
func (*example) Context() context.Context { return context.Background() }
func (e *example) Cleanup(f func())       { e.cleanups = append(e.cleanups, f) }
func (*example) FailNow()                 { panic("the example's server failed") }
func (*example) Errorf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// exampleServer starts an instance with a database of its own. done ends both.
func exampleServer() (as func(access.Role) client.Server, done func()) {
	e := &example{}
	url := apptest.Cluster(e, 1)[0].URL
	as = func(role access.Role) client.Server { return serverAt(apptest.Token(e, role, "c1", "b7"), url) }
	return as, func() {
		for _, f := range slices.Backward(e.cleanups) {
			f()
		}
	}
}
