package verify

import "iter"

// paged yields row after row of pages that are read when they are needed. Read is
// given the last row of the page before, and how many like it there were at its
// end; at first that is none. A page of fewer rows than `full` is the last.
func paged[R comparable](full int, read func(last R, alike int) ([]R, error)) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		var last R
		alike := 0
		for {
			page, err := read(last, alike)
			if err != nil {
				yield(last, err)
				return
			}
			for _, row := range page {
				if alike > 0 && row == last {
					alike++
				} else {
					last, alike = row, 1
				}
				if !yield(row, nil) {
					return
				}
			}
			if len(page) < full {
				return
			}
		}
	}
}
