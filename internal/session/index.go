package session

import "iter"

// index finds sessions by a name, so that an order for some costs no look at all the
// others. It is the Registry's, under its lock.
type index map[string]*place

// place is that of a session in an index, in a chain with those of the same name.
type place struct {
	session     *Session
	name        string // "": it is in none
	left, right *place
}

// places are a session's.
type places struct{ subject, token, id place }

// put finds a session by another name from now on; "" is by none.
func (x index) put(p *place, s *Session, name string) {
	if p.name == name {
		return
	}
	x.remove(p)
	if name == "" {
		return
	}
	*p = place{session: s, name: name, right: x[name]}
	if p.right != nil {
		p.right.left = p
	}
	x[name] = p
}

func (x index) remove(p *place) {
	switch {
	case p.name == "":
		return
	case p.left != nil:
		p.left.right = p.right
	case p.right != nil:
		x[p.name] = p.right
	default:
		delete(x, p.name)
	}
	if p.right != nil {
		p.right.left = p.left
	}
	*p = place{}
}

// of are the sessions of a name.
func (x index) of(name string) iter.Seq[*Session] {
	return func(yield func(*Session) bool) {
		for p := x[name]; p != nil; p = p.right {
			if !yield(p.session) {
				return
			}
		}
	}
}
