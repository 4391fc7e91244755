package event_test

import (
	"slices"
	"testing"
	"time"

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
	anew := event.Epochs{{Number: 3}}                                                          // on an empty database
	gaps := event.Epochs{{Number: 1}, {Number: 3, Survived: 100}, {Number: 5, Survived: 150}}  // 2 and 4 were lost
	for name, test := range map[string]struct {
		lives  event.Epochs
		cursor event.Cursor
		tip    event.Cursor
		resume event.Cursor
		holds  bool
	}{
		"the present tip":                    {lives, cursor(3, 170), cursor(3, 170), event.Cursor{}, true},
		"below the tip":                      {lives, cursor(3, 151), cursor(3, 170), event.Cursor{}, true},
		"above the tip":                      {lives, cursor(3, 171), cursor(3, 170), cursor(3, 170), false},
		"the start of the present epoch":     {lives, cursor(3, 150), cursor(3, 170), event.Cursor{}, true},
		"of the epoch before, survived":      {lives, cursor(2, 149), cursor(3, 170), event.Cursor{}, true},
		"of the epoch before, the last":      {lives, cursor(2, 150), cursor(3, 170), event.Cursor{}, true},
		"of the epoch before, lost":          {lives, cursor(2, 151), cursor(3, 170), cursor(2, 150), false},
		"lost, and handed out again since":   {lives, cursor(2, 160), cursor(3, 170), cursor(2, 150), false},
		"of the first epoch, survived":       {lives, cursor(1, 100), cursor(3, 170), event.Cursor{}, true},
		"of the first epoch, lost":           {lives, cursor(1, 101), cursor(3, 170), cursor(1, 100), false},
		"of the first epoch, before it all":  {lives, cursor(1, 0), cursor(3, 170), event.Cursor{}, true},
		"of an epoch that never was":         {lives, cursor(4, 10), cursor(3, 170), cursor(1, 10), false},
		"of such an epoch, above the tip":    {lives, cursor(4, 171), cursor(3, 170), cursor(3, 170), false},
		"of a log before its first event":    {empty, cursor(1, 0), cursor(1, 0), event.Cursor{}, true},
		"above a log before its first event": {empty, cursor(1, 1), cursor(1, 0), cursor(1, 0), false},
		"of a later epoch than the only one": {young, cursor(2, 0), cursor(1, 5), cursor(1, 0), false},
		"of the only epoch":                  {young, cursor(1, 5), cursor(1, 5), event.Cursor{}, true},
		"of the first epoch, lost later":     {deeper, cursor(1, 90), cursor(3, 170), cursor(1, 80), false},
		"of the second epoch, all lost":      {deeper, cursor(2, 110), cursor(3, 170), cursor(1, 80), false},
		"of the first epoch, survived twice": {deeper, cursor(1, 80), cursor(3, 170), event.Cursor{}, true},
		"the zero cursor":                    {lives, cursor(0, 0), cursor(3, 170), cursor(1, 0), false},
		"the start of a first life":          {anew, cursor(3, 0), cursor(3, 7), event.Cursor{}, true},
		"of a life before the first":         {anew, cursor(1, 5), cursor(3, 7), cursor(3, 0), false},
		"of a lost life, above the next":     {gaps, cursor(2, 120), cursor(5, 170), cursor(1, 100), false},
		"of a lost life, below the next":     {gaps, cursor(2, 60), cursor(5, 170), cursor(1, 60), false},
		"of a lost life in between":          {gaps, cursor(4, 160), cursor(5, 170), cursor(3, 150), false},
		"the last of a life beside a gap":    {gaps, cursor(3, 150), cursor(5, 170), event.Cursor{}, true},
		"ahead of a life beside a gap":       {gaps, cursor(1, 101), cursor(5, 170), cursor(1, 100), false},
		"survived, above a tip that is late": {lives, cursor(1, 95), cursor(1, 90), event.Cursor{}, true},
	} {
		resume, holds := test.lives.Holds(test.cursor, test.tip)
		require.Equal(t, test.holds, holds, name)
		if holds {
			require.Equal(t, test.cursor, resume, name)
		} else {
			require.Equal(t, test.resume, resume, name) // and from there it can be served
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
	require.Equal(t, cursor(3, 0), event.Epochs{{Number: 3}}.At(0))
	deeper := event.Epochs{{Number: 1}, {Number: 4, Survived: 100}, {Number: 9, Survived: 80}}
	for position, epoch := range map[int64]int64{80: 1, 81: 9, 101: 9} {
		require.Equal(t, cursor(epoch, position), deeper.At(position))
	}
}

func TestEpochs_Shared(t *testing.T) {
	t.Parallel()
	now := time.Now()
	list := event.Epochs{{Number: 1, OpenedAt: now}, {Number: 2, Survived: 100, OpenedAt: now}}
	longer := append(slices.Clone(list), event.Epoch{Number: 5, Survived: 120, OpenedAt: now})
	changed := func(change func(*event.Epoch)) event.Epochs {
		other := slices.Clone(list)
		change(&other[1])
		return other
	}
	for _, test := range []struct {
		other  event.Epochs
		shared int
	}{
		{list, 2},
		{longer, 2},
		{list[:1], 1},
		{nil, 0},
		{changed(func(e *event.Epoch) { e.Number = 3 }), 1},
		{changed(func(e *event.Epoch) { e.Survived = 90 }), 1},
		{changed(func(e *event.Epoch) { e.OpenedAt = now.Add(time.Microsecond) }), 1},
		{changed(func(e *event.Epoch) { e.OpenedAt = now.UTC() }), 2},
	} {
		require.Equal(t, test.shared, list.Shared(test.other))
		require.Equal(t, test.shared, test.other.Shared(list))
	}
}

func TestEpochs_Limit(t *testing.T) {
	t.Parallel()
	deeper := event.Epochs{{Number: 1}, {Number: 4, Survived: 100}, {Number: 9, Survived: 80}, {Number: 12, Survived: 130}}
	for number, limit := range map[int64]int64{0: 0, 1: 80, 2: 80, 4: 80, 8: 80, 9: 130, 12: event.MaxPosition, 13: event.MaxPosition} {
		require.Equal(t, limit, deeper.Limit(number), number)
	}
	require.Equal(t, event.MaxPosition, event.Epochs(nil).Limit(1))
	require.Equal(t, int64(12), deeper.Newest())
	require.Zero(t, event.Epochs(nil).Newest())
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
