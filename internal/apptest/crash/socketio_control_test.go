package crash_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest/sioclient"
)

// A page finds out what it must not be told. What it cannot see by itself, the log shows.
// Each list is what one connection says; anew comes before that of a program that was started
// anew.
func TestControl_BrokenPage(t *testing.T) {
	t.Parallel()
	const anew, c, c2 = "anew", `0{"pid":"one"}`, `0{"pid":"two"}`
	e := func(n int) string { return fmt.Sprintf(`2["newOrder",{"n":%d}]`, n) }
	o := func(n int) string { return fmt.Sprintf(`2["$o","p1-%d"]`, n) }
	for name, said := range map[string]struct {
		want string // "" is that all is well
		list [][]string
	}{
		"what had no offset comes again":    {"", [][]string{{c, e(1), e(2), o(2), e(3)}, {c, e(3), e(4), o(4)}, {c, o(5)}}},
		"all comes again to a new program":  {"", [][]string{{c, e(1), o(1), e(2)}, {anew, c2, e(1), e(2), o(2), e(3), o(3)}}},
		"some comes again to a new program": {"", [][]string{{c, e(1), e(2), o(2)}, {anew, c2, e(2), o(2)}, {c2, e(3), o(3)}}},
		"nothing had come since":            {"", [][]string{{c, e(1), o(1)}, {anew, c2, o(1)}, {c2, o(3), e(4), o(4)}}},
		"it forgets twice":                  {"", [][]string{{c, e(1), o(1)}, {anew, c2, e(1)}, {anew, c, e(1), o(1), e(2), o(2)}}},

		"it comes again":         {"number 0 came where number 1 was due", [][]string{{c, e(1), o(1)}, {c, e(1)}}},
		"it does not come again": {"skipped", [][]string{{c, e(1), o(1), e(2)}, {c, e(3)}}},
		"twice":                  {"skipped", [][]string{{c, e(1), e(1)}}},
		"a new program misses what had no offset":   {"skipped", [][]string{{c, e(1), o(1), e(2)}, {anew, c2, e(3)}}},
		"a new program misses something":            {"skipped", [][]string{{c, e(1), e(2), e(3), o(3)}, {anew, c2, e(1), e(3)}}},
		"a new program misses the last":             {"skipped", [][]string{{c, e(1), e(2), o(2)}, {anew, c2, e(1), o(2)}}},
		"the offset goes back":                      {"goes back", [][]string{{c, o(2), o(1)}}},
		"the offset goes back on another":           {"goes back", [][]string{{c, o(2)}, {c, o(1)}}},
		"another pid":                               {"not recovered", [][]string{{c}, {c2}}},
		"an event before the answer":                {"against", [][]string{{c}, {e(1)}}},
		"a reset":                                   {"against", [][]string{{c, `2["$reset",{"reason":"expired"}]`}}},
		"an offset where each event should have it": {"against", [][]string{{c, `2["newOrder",{"n":1},"p1-1"]`}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &follower{cursor: "1-0", random: rand.New(rand.NewPCG(1, 1)), page: &page{places: map[string]int{}}}
			var err error
			for _, list := range said.list {
				if list[0] == anew {
					f.page.forget()
					list = list[1:]
				}
				f.auth()
				for _, text := range list {
					require.NoError(t, err)
					err = f.packet(sioclient.Packet{Kind: int(text[0] - '0'), Data: []byte(text[1:]), Raw: text})
				}
			}
			if said.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, errWrong)
			require.ErrorContains(t, err, said.want)
		})
	}
}
