package eventlog

// line is groups that go one after the other: only the front is, or has been, in
// its lane. There are lines of two kinds.
//
// In the line of a source are all its groups that wait, from the first. The next
// comes forward when the front has been taken, for the same batch if it may.
//
// In the line of a key, an id, a talk or a stream, are groups that were refused by a
// batch which had the key already. It is closed then, without a front, until the
// next batch. A group stays in it until it is taken.
type line struct {
	key   any
	front *pending
	rest  sorted[*pending]
}

// sourceKey keeps sources apart from the keys of events.
type sourceKey struct{ source any }

// standsInFront puts g into the line of its source, and reports whether it is
// the front. Groups of no source stand in no line.
func (q *queue) standsInFront(g *pending) bool {
	if g.source == nil {
		return true
	}
	key := sourceKey{g.source}
	l := q.lines[key]
	if l == nil {
		l = &line{key: key, front: g}
		q.lines[key] = l
	}
	g.sourceLine = l
	if l.front == g {
		return true
	}
	g.wait(&l.rest)
	return false
}

// park puts g, which the present batch refuses because of key, into a line: the
// one it comes from, or that of the key.
func (q *queue) park(g *pending, key any) {
	l := g.keyLine
	switch {
	case l != nil: // as its front
		l.front = nil
		q.closed = append(q.closed, l)
	case q.lines[key] != nil:
		l = q.lines[key]
	default:
		l = &line{key: key}
		q.lines[key] = l
		q.closed = append(q.closed, l)
	}
	g.keyLine = l
	g.wait(&l.rest)
}

// open lets the lines move that the last batch closed.
func (q *queue) open() {
	for _, l := range q.closed {
		q.advance(l)
	}
	clear(q.closed)
	q.closed = q.closed[:0]
}

// advance lets the next of l come forward, or ends the line.
func (q *queue) advance(l *line) {
	if len(l.rest) == 0 {
		delete(q.lines, l.key)
		return
	}
	l.front = l.rest[0]
	l.front.leave()
	q.ready(l.front)
}
