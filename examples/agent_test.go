package examples_test

import (
	"errors"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/client"
	"github.com/tailroom/tailroom/internal/apptest"
)

// A printer without paper holds up its own jobs and no other's; somebody who waits
// for a test page is told at once. When there is paper again, everything is
// printed.
func TestPrinterAgent_PaperOut(t *testing.T) {
	t.Parallel()
	b := newBranch(t, apptest.Cluster(t, 1)[0].URL)
	b.printer("kitchen-b7", "paper_out")
	b.agent.start()
	b.await(1, printerIs("kitchen-b7", "paper_out"), "it says how its printers are")
	b.await(1, printerIs("bar-b7", "online"), "of each printer")

	stuck := b.publish(job("kitchen-b7", time.Hour), job("kitchen-b7", time.Hour))
	b.await(1, about(stuck[0], updated("failed")), "it says that it waits")
	well := b.publish(job("bar-b7", time.Hour))[0]
	b.await(1, about(well, updated("printed")), "the other printer prints")
	test := b.publish(testPage("kitchen-b7", time.Minute))[0]
	b.await(1, about(test, final), "somebody waits")
	require.Zero(t, b.count(about(test, onPaper)))

	b.printer("kitchen-b7", "")
	for _, id := range stuck {
		b.await(1, about(id, updated("printed")), "there is paper again")
	}
	b.await(1, printerIs("kitchen-b7", "online"), "and that is said")
	test = b.publish(testPage("kitchen-b7", time.Minute))[0]
	b.await(1, about(test, onPaper), "a test page")
	require.Equal(t, "Hello\n", b.paper[test])
	b.agent.stop()
	require.Empty(t, b.agent.said.all())
	require.Empty(t, b.wrong)
}

// What is past its time when the agent is back is not printed, and that is said.
// What is not, is printed. What is for a printer that it does not have is not its
// business.
func TestPrinterAgent_ComesBack(t *testing.T) {
	t.Parallel()
	b := newBranch(t, apptest.Cluster(t, 1)[0].URL)
	b.agent.start()
	b.await(2, discovered, "it is there")
	before := b.publish(job("bar-b7", time.Hour))[0]
	b.await(1, about(before, updated("printed")), "it works")
	b.agent.stop()

	late, lateTest := b.publish(job("bar-b7", -time.Minute))[0], b.publish(testPage("bar-b7", -time.Minute))[0]
	other := b.publish(job("another", time.Hour), testPage("another", -time.Minute))
	wrong := job("bar-b7", time.Hour)
	wrong.Data = map[string]any{"printerId": "bar-b7", "branchId": "b7", "jobId": 17, "status": "queued", "text": 1}
	unread, good := b.publish(wrong)[0], b.publish(job("bar-b7", time.Hour))[0]
	b.agent.start()
	b.await(1, about(good, updated("printed")), "it is not too late")
	b.await(1, about(late, updated("expired")), "too late")
	b.await(1, about(lateTest, final), "too late")
	b.await(1, about(unread, updated("failed")), "no text")
	require.Len(t, b.paper, 2, "nothing else is on paper")
	for _, id := range other {
		require.Zero(t, b.count(about(id, anything)))
	}
	b.agent.stop()
	require.Empty(t, b.agent.said.all())
	require.Empty(t, b.wrong)
	require.Empty(t, b.left())
}

// The outbox's file is the agent's: a second agent in the same folder does not
// start. An agent of the same name elsewhere takes its place, and it stops; by its exit
// code the service manager knows not to start it again.
func TestPrinterAgent_OneAtATime(t *testing.T) {
	t.Parallel()
	b := newBranch(t, apptest.Cluster(t, 1)[0].URL)
	b.agent.start()
	b.await(2, discovered, "it is there")
	second := b.agent.another()
	second.start()
	require.Equal(t, 1, exitCode(t, second))
	require.Contains(t, second.said.all()[0], "in use by another Client")
	second = b.agent.another("-dir", memory(t))
	second.start()
	require.Equal(t, 3, exitCode(t, b.agent))
	require.Contains(t, b.agent.said.all()[0], "replaced")
	second.stop()
}

// Nor does a kitchen take turns with another one.
func TestKitchen_OneAtATime(t *testing.T) {
	t.Parallel()
	b := newBranch(t, apptest.Cluster(t, 1)[0].URL)
	b.kitchen.start()
	id := b.publish(order("1"))[0]
	apptest.Eventually(t, func() bool { // it is there when an order becomes a job
		if b.count(queued) == 0 {
			id = b.publish(order("1"))[0]
		}
		return b.count(about(id, queued)) > 0
	}, apptest.Patience, 200*time.Millisecond)
	second := b.kitchen.another()
	second.start()
	require.Equal(t, 3, exitCode(t, b.kitchen))
	second.stop()
}

// exitCode waits until a program has ended by itself.
func exitCode(t *testing.T, p *program) int {
	t.Helper()
	ended, ok := errors.AsType[*exec.ExitError](p.wait())
	require.True(t, ok, "it has not failed")
	return ended.ExitCode()
}

// What was printed and not acknowledged when the agent was killed comes again, and
// is not printed again, though its paper is long gone.
func TestPrinterAgent_KnowsWhatItDid(t *testing.T) {
	t.Parallel()
	b := newBranch(t, apptest.Cluster(t, 1)[0].URL)
	b.agent.start()
	b.await(2, discovered, "it is there")
	for round := range 4 {
		var group []client.Draft
		for range 20 {
			group = append(group, job("bar-b7", time.Hour))
		}
		b.publish(group...)
		b.await(21*round+20, updated("printed"), "it works")
		require.True(t, b.agent.kill()) // it acknowledges about once a second
		b.agent.start()
		last := b.publish(job("bar-b7", time.Hour))[0]
		b.await(1, about(last, updated("printed")), "all that came again is behind it")
		require.Empty(t, b.left(), "printed twice")
	}
	b.agent.stop()
	require.Empty(t, b.agent.said.all())
	require.Empty(t, b.wrong)
}
