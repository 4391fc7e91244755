package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// The steps of a task.
const (
	accepted = "accepted" // it is the agent's, whatever happens
	begun    = "begun"    // it may be on paper, or not
	settled  = "ended"    // there is an outcome, which has to be reported
	reported = "reported" // the report is in the outbox: kept to know the task again
)

// remembered is how many reported tasks are kept. What is received twice was
// received within the last seconds.
const remembered = 50_000

// rewriteAfter is how many bytes the file may grow by.
const rewriteAfter = 8 << 20

// entry is a line of the journal: a task has come to a step.
type entry struct {
	ID      string          `json:"id"` // the event's
	Step    string          `json:"step"`
	Event   json.RawMessage `json:"event,omitempty"`   // until it is reported
	Outcome *outcome        `json:"outcome,omitempty"` // likewise
}

// journal is a file of what the agent has taken upon itself and how far it is, a
// line for each step. An entry is on the disk when write returns.
type journal struct {
	path string

	mu    sync.Mutex
	file  *os.File
	tasks map[string]*entry // what the lines come to
	order []*entry          // as they were accepted
	grown int
	err   error // the file cannot be relied on any more
}

func openJournal(path string) (*journal, error) {
	j := &journal{path: path, tasks: map[string]*entry{}}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	at := 0
	for line := range bytes.Lines(text) {
		at += len(line)
		var e entry
		if err := json.Unmarshal(line, &e); err == nil && line[len(line)-1] == '\n' {
			j.apply(e)
		} else if at < len(text) {
			return nil, fmt.Errorf("the journal %s is damaged before byte %d: %w", path, at, err)
		} // else it was being written when the machine stopped, and nothing relies on it
	}
	if err := j.rewrite(); err != nil {
		return nil, err
	}
	return j, nil
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.err = os.ErrClosed
	return j.file.Close()
}

// knows reports whether a task is here, or was.
func (j *journal) knows(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.tasks[id] != nil
}

// unfinished lists the tasks that are not reported, as they were accepted.
func (j *journal) unfinished() (list []entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.order {
		if e.Step != reported {
			list = append(list, *e)
		}
	}
	return list
}

// write notes a step. That a task is reported need not be on the disk: at worst
// it is reported again, which is harmless.
func (j *journal) write(e entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err = j.file.Write(append(line, '\n')); err == nil && e.Step != reported {
		err = j.file.Sync()
	}
	if err != nil {
		j.err = fmt.Errorf("the journal: %w", err) // what the disk has is not known
		return j.err
	}
	j.apply(e)
	if j.grown += len(line); j.grown > rewriteAfter {
		j.err = j.rewrite()
	}
	return j.err
}

// apply adds a line to what the lines come to.
func (j *journal) apply(e entry) {
	known := j.tasks[e.ID]
	switch {
	case known == nil:
		j.tasks[e.ID] = &e
		j.order = append(j.order, &e)
		return
	case e.Step == reported:
		known.Event, known.Outcome = nil, nil
	case e.Outcome != nil:
		known.Outcome = e.Outcome
	}
	known.Step = e.Step
}

// rewrite replaces the file by one that has a line for each task, and forgets the
// oldest that are reported.
func (j *journal) rewrite() error {
	var text []byte
	var kept []*entry
	for i, e := range j.order {
		if e.Step == reported && i < len(j.order)-remembered {
			delete(j.tasks, e.ID)
			continue
		}
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		kept, text = append(kept, e), append(append(text, line...), '\n')
	}
	j.order, j.grown = kept, 0
	if err := write(j.path+".new", text); err != nil {
		return err
	}
	if j.file != nil {
		j.file.Close() // Windows replaces no file that is open
	}
	if err := os.Rename(j.path+".new", j.path); err != nil {
		return err
	}
	if err := syncFolder(filepath.Dir(j.path)); err != nil {
		return err
	}
	var err error
	j.file, err = os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0o644)
	return err
}
