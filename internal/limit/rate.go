package limit

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// leastSweep is how many companies are kept before any is looked for that can
// be forgotten.
const leastSweep = 1024

// newBucket holds as much as may come in a second; nil is no limit.
func newBucket(perSecond int) *rate.Limiter {
	if perSecond == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), perSecond)
}

// take takes n from a bucket, or returns after what time it would have been
// possible. What is more than the bucket holds is taken when the bucket is full,
// and paid for afterwards: a large group is not refused for ever.
func take(b *rate.Limiter, now time.Time, n int) (wait time.Duration) {
	if b == nil {
		return 0
	}
	whole := b.Burst()
	first := min(n, whole)
	if !b.AllowN(now, first) {
		missing := float64(first) - b.TokensAt(now)
		return max(time.Duration(missing/float64(b.Limit())*float64(time.Second)), 1)
	}
	for left := n - first; left > 0; left -= whole {
		b.ReserveN(now, min(left, whole))
	}
	return 0
}

// companyRates has a bucket for each company that was active a moment ago. A full
// bucket is as good as a new one, so the map is swept of those when it has doubled.
type companyRates struct {
	perSecond int

	mu      sync.Mutex
	buckets map[string]*rate.Limiter
	sweepAt int
}

func newCompanyRates(perSecond int) *companyRates {
	if perSecond == 0 {
		return nil
	}
	return &companyRates{perSecond: perSecond, buckets: map[string]*rate.Limiter{}, sweepAt: leastSweep}
}

func (r *companyRates) take(company string, n int) (wait time.Duration) {
	if r == nil || company == "" {
		return 0
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.buckets[company]
	if b == nil {
		r.sweep(now)
		b = newBucket(r.perSecond)
		r.buckets[company] = b
	}
	return take(b, now, n)
}

func (r *companyRates) sweep(now time.Time) {
	if len(r.buckets) < r.sweepAt {
		return
	}
	for company, b := range r.buckets {
		if b.TokensAt(now) >= float64(b.Burst()) {
			delete(r.buckets, company)
		}
	}
	r.sweepAt = max(leastSweep, 2*len(r.buckets))
}
