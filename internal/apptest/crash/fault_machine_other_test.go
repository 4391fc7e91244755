//go:build !linux

package crash_test

func machineFaults() []*fault { return nil }
