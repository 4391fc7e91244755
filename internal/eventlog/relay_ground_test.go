package eventlog

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Transactions draw numbers and end in any order, and a leader reads pages as
// PostgreSQL would show them. He finds each row, first the lowest that is visible,
// and when all is quiet he searches no further than he must.
func TestGround_AgainstAModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		m := newModel(seed)
		for range 300 {
			m.step(t)
		}
		for _, tx := range slices.Clone(m.running) {
			m.end(tx)
		}
		for looks := 0; looks < 1000 && (len(m.visible) > 0 || !m.ground.known()); looks++ {
			m.look(t)
		}
		require.Empty(t, m.visible, "seed %d: never found", seed)
		require.True(t, m.ground.known(), "seed %d", seed)
	}
}

type transaction struct{ rows []int64 }

// model is a database and a leader.
type model struct {
	seed    uint64
	random  *rand.Rand
	last    int64          // number drawn
	running []*transaction // in the order they began
	visible []int64        // and not relayed

	ground  ground
	horizon *struct {
		upto   int64
		before []*transaction // those that ran
	}
}

func newModel(seed uint64) *model {
	m := &model{seed: seed, random: rand.New(rand.NewPCG(seed, 1))}
	m.last = m.random.Int64N(100) // numbers of another leader's time
	return m
}

func (m *model) step(t *testing.T) {
	t.Helper()
	switch m.random.IntN(8) {
	case 0, 1:
		m.running = append(m.running, &transaction{})
	case 2, 3, 4:
		if len(m.running) > 0 {
			m.last++
			tx := m.running[m.random.IntN(len(m.running))]
			tx.rows = append(tx.rows, m.last)
		}
	case 5, 6:
		if len(m.running) > 0 {
			m.end(m.running[m.random.IntN(len(m.running))])
		}
	default:
		m.look(t)
	}
}

// end commits, or rolls back.
func (m *model) end(tx *transaction) {
	m.running = slices.DeleteFunc(m.running, func(other *transaction) bool { return other == tx })
	if m.random.IntN(5) > 0 {
		m.visible = append(m.visible, tx.rows...)
		slices.Sort(m.visible)
	}
}

// look is a leader's pass, as in term.pass.
func (m *model) look(t *testing.T) {
	t.Helper()
	settled := int64(-1)
	if !m.ground.known() {
		if m.horizon == nil {
			m.horizon = &struct {
				upto   int64
				before []*transaction
			}{m.last, slices.Clone(m.running)}
		}
		if !slices.ContainsFunc(m.horizon.before, func(tx *transaction) bool { return slices.Contains(m.running, tx) }) {
			settled, m.horizon = m.horizon.upto, nil
		}
	}
	var found []int64
	for _, row := range m.visible {
		in := row > m.ground.high || slices.ContainsFunc(m.ground.gaps, func(s span) bool { return s.first <= row && row <= s.last })
		require.True(t, in, "seed %d: %d is searched for no more: %+v", m.seed, row, m.ground)
		found = append(found, row)
	}
	found = found[:min(len(found), 1+m.random.IntN(5))] // the page
	if m.random.IntN(10) == 0 {
		return // it could not be relayed
	}
	m.visible = m.visible[len(found):]
	m.ground.cover(found, settled)
	gaps := m.ground.gaps
	for i, s := range gaps {
		require.LessOrEqual(t, s.first, s.last)
		require.LessOrEqual(t, s.last, m.ground.high)
		require.True(t, i == 0 || gaps[i-1].last < s.first, "seed %d: %+v", m.seed, gaps)
	}
}

// What another leader relayed is not searched either.
func TestGround_BeginsWhereTheLastOneEnded(t *testing.T) {
	t.Parallel()
	var g ground
	require.False(t, g.known())
	g.cover(nil, 1000)
	require.Equal(t, ground{high: 1000, anchored: true}, g)
}

func TestGround_ForgetsDetailsRatherThanGrow(t *testing.T) {
	t.Parallel()
	var g ground
	g.cover(nil, 0)
	for row := int64(2); row <= 4*maxGaps; row += 2 {
		g.cover([]int64{row}, -1)
		require.LessOrEqual(t, len(g.gaps), maxGaps)
	}
	require.EqualValues(t, 1, g.gaps[0].first)
	g.cover(nil, 3*maxGaps)
	require.EqualValues(t, 3*maxGaps+1, g.gaps[0].first)
	g.cover(nil, 4*maxGaps)
	require.True(t, g.known())
}
