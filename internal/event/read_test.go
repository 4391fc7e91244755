package event_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
)

// lives is a log that was failed over twice: positions to 100 survived of the
// first epoch, those to 150 of the second.
var lives = event.Epochs{{Number: 1}, {Number: 2, Survived: 100}, {Number: 3, Survived: 150}}

func cursor(epoch, position int64) event.Cursor {
	return event.Cursor{Epoch: epoch, Position: position}
}

func TestEpochs_Holds(t *testing.T) {
	t.Parallel()
	empty, young := event.Epochs(nil), event.Epochs{{Number: 1}}
	deeper := event.Epochs{{Number: 1}, {Number: 2, Survived: 100}, {Number: 3, Survived: 80}} // the second failover lost more
	for name, test := range map[string]struct {
		lives  event.Epochs
		cursor event.Cursor
		tip    event.Cursor
		resume event.Cursor
		holds  bool
	}{
		"the present tip":                    {lives, cursor(3, 170), cursor(3, 170), cursor(3, 170), true},
		"below the tip":                      {lives, cursor(3, 151), cursor(3, 170), cursor(3, 170), true},
		"above the tip":                      {lives, cursor(3, 171), cursor(3, 170), cursor(3, 170), false},
		"the start of the present epoch":     {lives, cursor(3, 150), cursor(3, 170), cursor(3, 170), true},
		"of the epoch before, survived":      {lives, cursor(2, 149), cursor(3, 170), cursor(2, 150), true},
		"of the epoch before, the last":      {lives, cursor(2, 150), cursor(3, 170), cursor(2, 150), true},
		"of the epoch before, lost":          {lives, cursor(2, 151), cursor(3, 170), cursor(2, 150), false},
		"lost, and handed out again since":   {lives, cursor(2, 160), cursor(3, 170), cursor(2, 150), false},
		"of the first epoch, survived":       {lives, cursor(1, 100), cursor(3, 170), cursor(1, 100), true},
		"of the first epoch, lost":           {lives, cursor(1, 101), cursor(3, 170), cursor(1, 100), false},
		"of the first epoch, before it all":  {lives, cursor(1, 0), cursor(3, 170), cursor(1, 100), true},
		"of an epoch that never was":         {lives, cursor(4, 10), cursor(3, 170), cursor(3, 170), false},
		"of a log before its first event":    {empty, cursor(1, 0), cursor(1, 0), cursor(1, 0), true},
		"above a log before its first event": {empty, cursor(1, 1), cursor(1, 0), cursor(1, 0), false},
		"of a later epoch than the only one": {young, cursor(2, 0), cursor(1, 5), cursor(1, 5), false},
		"of the only epoch":                  {young, cursor(1, 5), cursor(1, 5), cursor(1, 5), true},
		"of the first epoch, lost later":     {deeper, cursor(1, 90), cursor(3, 170), cursor(1, 80), false},
		"of the second epoch, all lost":      {deeper, cursor(2, 110), cursor(3, 170), cursor(2, 80), false},
		"of the first epoch, survived twice": {deeper, cursor(1, 80), cursor(3, 170), cursor(1, 80), true},
		"the zero cursor":                    {lives, cursor(0, 0), cursor(3, 170), cursor(3, 170), false},
	} {
		resume, holds := test.lives.Holds(test.cursor, test.tip)
		require.Equal(t, test.holds, holds, name)
		require.Equal(t, test.resume, resume, name)
		if !holds { // and from there it can be served
			_, holds = test.lives.Holds(resume, test.tip)
			require.True(t, holds, name)
		}
	}
}

func TestEpochs_At(t *testing.T) {
	t.Parallel()
	for position, epoch := range map[int64]int64{0: 1, 1: 1, 100: 1, 101: 2, 150: 2, 151: 3, 9999: 3} {
		require.Equal(t, cursor(epoch, position), lives.At(position))
	}
	require.Equal(t, cursor(1, 0), event.Epochs(nil).At(0))
	require.Equal(t, cursor(1, 7), event.Epochs{{Number: 1}}.At(7))
}

// An epoch in which nothing happened before the next began: its positions are
// the next one's.
func TestEpochs_EmptyEpoch(t *testing.T) {
	t.Parallel()
	list := event.Epochs{{Number: 1}, {Number: 2, Survived: 10}, {Number: 3, Survived: 10}}
	require.Equal(t, cursor(1, 10), list.At(10))
	require.Equal(t, cursor(3, 11), list.At(11))
	_, holds := list.Holds(cursor(2, 10), cursor(3, 12))
	require.True(t, holds)
	_, holds = list.Holds(cursor(2, 11), cursor(3, 12))
	require.False(t, holds)
}
