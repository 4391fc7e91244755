package eventlog

import "container/heap"

// sorted is a heap: what goes before all else is the first of the slice. Each
// element is told its place, so that it is not searched for when it is to leave.
type sorted[T interface {
	Before(other T) bool
	Moved(place int)
}] []T

func (s *sorted[T]) add(x T)          { heap.Push(s, x) }
func (s *sorted[T]) remove(place int) { heap.Remove(s, place) }

// resort puts the element at place, whose order has changed, where it belongs.
func (s *sorted[T]) resort(place int) { heap.Fix(s, place) }

// Len is the heap's, as are those below.
func (s *sorted[T]) Len() int { return len(*s) }

// Less reports which of two goes first.
func (s *sorted[T]) Less(i, j int) bool { return (*s)[i].Before((*s)[j]) }

// Swap swaps two.
func (s *sorted[T]) Swap(i, j int) {
	(*s)[i], (*s)[j] = (*s)[j], (*s)[i]
	(*s)[i].Moved(i)
	(*s)[j].Moved(j)
}

// Push adds x at the end.
func (s *sorted[T]) Push(x any) {
	element := x.(T) //nolint:forcetypeassert // add gives it nothing else
	element.Moved(len(*s))
	*s = append(*s, element)
}

// Pop takes the last one.
func (s *sorted[T]) Pop() any {
	last := len(*s) - 1
	x := (*s)[last]
	clear((*s)[last:])
	*s = (*s)[:last]
	return x
}
