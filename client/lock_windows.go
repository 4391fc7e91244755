package client

import (
	"fmt"
	"syscall"
)

// lockFile makes sure that a file has one process: it is opened without sharing.
// The lock ends with the process, however that ends.
func lockFile(path string) (release func() error, err error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	handle, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil,
		syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, fmt.Errorf("%s is in use by another Client, perhaps of another process: %w", path, err)
	}
	return func() error { return syscall.CloseHandle(handle) }, nil
}
