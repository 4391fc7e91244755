//go:build !linux

package localpg

import "syscall"

// endWithUs does nothing: the next Start stops what we leave behind.
func endWithUs(*syscall.SysProcAttr) {}
