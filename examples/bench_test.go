package examples_test

import (
	"testing"
	"time"

	"github.com/tailroom/tailroom/client"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/load"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// BenchmarkCatchUp is the agent's morning: from its start until each of 5,000 jobs,
// which came while it was away, is printed, on the disk, and said to be printed in
// the log.
func BenchmarkCatchUp(b *testing.B) {
	server := load.StartProcess(b, load.Build(b), pgtest.Writer(pgtest.Database(b)), apptest.Secret, "TAILROOM_MIGRATE=off")
	shop := newBranch(b, server.URL)
	shop.folder = b.TempDir() // a disk
	shop.agent.args = append(shop.agent.args, "-dir", shop.folder)
	shop.agent.start()
	shop.await(2, discovered, "the agent is known")
	shop.agent.stop()
	jobs := 0
	for b.Loop() {
		b.StopTimer()
		for range crowd / 500 {
			var group []client.Draft
			for range 500 {
				group = append(group, job("kitchen-b7", time.Hour))
			}
			jobs += len(shop.publish(group...))
		}
		b.StartTimer()
		shop.agent.start()
		shop.await(jobs, updated("printed"), "each job is printed")
		b.StopTimer()
		shop.agent.stop()
		b.StartTimer()
	}
	b.ReportMetric(float64(jobs)/b.Elapsed().Seconds(), "jobs/s")
}
