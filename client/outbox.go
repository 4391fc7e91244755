package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// compactAbove is the size in bytes from which an outbox is written anew, when
// half of it is dealt with.
const compactAbove = 1 << 20

// outbox is a queue of groups in a file. A group is in it when put has returned,
// whatever happens to the process or the machine then. What is dealt with is only
// noted, without waiting for the disk: after a crash it may be sent again, under
// the same ids.
type outbox struct {
	path      string
	maxEvents int
	maxBytes  int64
	changed   chan struct{} // of capacity one: something was put

	mu      sync.Mutex
	file    *os.File
	release func() error // the lock
	size    int64        // of the file
	waiting []stored
	last    uint64
	events  int // that wait
	bytes   int64
	failed  error // the file's state is not known any more
}

func openOutbox(path string, maxEvents int, maxBytes int64) (*outbox, error) {
	release, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}
	o := &outbox{path: path, maxEvents: maxEvents, maxBytes: maxBytes, changed: make(chan struct{}, 1), release: release}
	if err := o.load(); err != nil {
		if o.file != nil {
			_ = o.file.Close()
		}
		return nil, errors.Join(err, release())
	}
	return o, nil
}

// load reads what an earlier process left, and cuts off what it did not finish.
func (o *outbox) load() error {
	file, err := os.OpenFile(o.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	o.file = file
	text, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	var end int64
	if o.waiting, o.last, end, err = scan(text); err != nil {
		return fmt.Errorf("the outbox %s: %w: move the file away to begin with an empty one", o.path, err)
	}
	o.events, o.bytes = 0, 0
	for _, s := range o.waiting {
		o.events += s.events
		o.bytes += int64(s.length)
	}
	o.size = end
	if end < int64(len(text)) {
		if err := errors.Join(file.Truncate(end), file.Sync()); err != nil {
			return err
		}
	}
	return syncFolder(filepath.Dir(o.path))
}

// put stores a group. When it returns nil, the group is on the disk.
func (o *outbox) put(events []json.RawMessage) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failed != nil {
		return o.failed
	}
	line, err := record{Put: o.last + 1, Events: events}.append(nil)
	if err != nil {
		return err
	}
	if o.events+len(events) > o.maxEvents || o.bytes+int64(len(line)) > o.maxBytes {
		return fmt.Errorf("%w: %d events in %d bytes wait", ErrOutboxFull, o.events, o.bytes)
	}
	at := o.size
	if err := o.write(line); err != nil {
		return err
	}
	if err := o.file.Sync(); err != nil {
		o.failed = fmt.Errorf("the outbox cannot be relied on any more: %w", err) // what the disk has is not known
		return o.failed
	}
	o.last++
	o.waiting = append(o.waiting, stored{o.last, at, len(line), len(events)})
	o.events += len(events)
	o.bytes += int64(len(line))
	select {
	case o.changed <- struct{}{}:
	default:
	}
	return nil
}

// write appends a line. What could be written of it only in part is cut off.
func (o *outbox) write(line []byte) error {
	_, err := o.file.WriteAt(line, o.size)
	if err == nil {
		o.size += int64(len(line))
		return nil
	}
	if undo := o.file.Truncate(o.size); undo != nil {
		o.failed = fmt.Errorf("the outbox cannot be relied on any more: %w", errors.Join(err, undo))
	}
	return err
}

// first returns the group that waits longest: nil if there is none.
func (o *outbox) first() ([]json.RawMessage, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting) == 0 || o.failed != nil {
		return nil, o.failed
	}
	s := o.waiting[0]
	line := make([]byte, s.length)
	if _, err := o.file.ReadAt(line, s.offset); err != nil {
		return nil, err
	}
	r, ok := parseRecord(line[:s.length-1])
	if !ok || r.Put != s.number {
		return nil, fmt.Errorf("the outbox %s was changed by somebody else at byte %d", o.path, s.offset)
	}
	return r.Events, nil
}

// done takes the first group out. The error says that the file does not know it:
// then the group is sent again after a restart.
func (o *outbox) done() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failed != nil {
		return o.failed
	}
	first := o.waiting[0]
	o.waiting = o.waiting[1:]
	o.events -= first.events
	o.bytes -= int64(first.length)
	line, err := record{Done: first.number}.append(nil)
	if err != nil {
		return err
	}
	if err := o.write(line); err != nil {
		return err
	}
	switch {
	case len(o.waiting) == 0 && o.size > compactAbove:
		if err := o.file.Truncate(0); err != nil {
			return err
		}
		o.size = 0
	case o.size > compactAbove && o.bytes < o.size/2:
		return o.compact()
	}
	return nil
}

// compact replaces the file by one with what waits, and reads that.
func (o *outbox) compact() error {
	text := make([]byte, o.bytes)
	at := 0
	for _, s := range o.waiting {
		if _, err := o.file.ReadAt(text[at:at+s.length], s.offset); err != nil {
			return err
		}
		at += s.length
	}
	_ = o.file.Close() // Windows replaces no file that is open
	err := replaceFile(o.path, text)
	if o.failed = o.load(); o.failed != nil {
		return o.failed
	}
	return err
}

func (o *outbox) pending() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.events
}

func (o *outbox) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if errors.Is(o.failed, os.ErrClosed) {
		return nil
	}
	o.failed = fmt.Errorf("the outbox: %w", os.ErrClosed)
	return errors.Join(o.file.Close(), o.release())
}
