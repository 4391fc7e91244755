//go:build !linux

package crash_test

import "testing"

// machine is the one that there is: elsewhere than on Linux nothing is preloaded,
// and its faults do not exist.
type machine struct{ environ []string }

func newMachine(*testing.T) *machine { return &machine{} }
