package flowcontrol

import (
	"context"
	"math"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/utils/ptr"
)

// Seats that a level does not need are lent to those that do (KEP-1040): every ten seconds the limits are drawn anew, between what
// a level always keeps and what it may have at the most, in proportion to what was wanted.

const (
	borrowingInterval = 10 * time.Second
	// smoothing is how much of the demand of before counts still, of a demand that falls: half of it is forgotten in five minutes.
	smoothing = 0.977
)

// limits are a level's seats: what it has of right, what it always keeps, what it may have, and has now.
type limits struct{ nominal, lower, upper, current int }

// limitsOf reads a level's share of total seats.
func limitsOf(l *flowcontrolv1.PriorityLevelConfiguration, total int, allShares float64) limits {
	nominal := int(math.Ceil(float64(total) * float64(sharesOf(l)) / max(allShares, 1)))
	lendable, borrowing := int32(0), (*int32)(nil)
	switch {
	case l.Spec.Limited != nil:
		lendable, borrowing = ptr.Deref(l.Spec.Limited.LendablePercent, 0), l.Spec.Limited.BorrowingLimitPercent
		nominal = max(nominal, 1)
	case l.Spec.Exempt != nil:
		lendable = ptr.Deref(l.Spec.Exempt.LendablePercent, 0)
	}
	made := limits{nominal: nominal, lower: nominal - percent(nominal, lendable), upper: max(total, nominal), current: nominal}
	if borrowing != nil {
		made.upper = nominal + percent(nominal, *borrowing)
	}
	return made
}

func percent(of int, p int32) int { return int(math.Round(float64(of) * float64(p) / 100)) }

// demand is how many seats were wanted in a period.
type demand struct{ high, average, deviation float64 }

// integrator sums a value over time.
type integrator struct {
	since, last  time.Time
	value        float64
	sum, squares float64
	high         float64
}

func (i *integrator) set(now time.Time, value float64) {
	i.advance(now)
	i.value = value
	i.high = max(i.high, value)
}

func (i *integrator) advance(now time.Time) {
	if i.last.IsZero() {
		i.since, i.last = now, now
	}
	if passed := now.Sub(i.last).Seconds(); passed > 0 {
		i.sum += i.value * passed
		i.squares += i.value * i.value * passed
		i.last = now
	}
}

func (i *integrator) reset(now time.Time) demand {
	i.advance(now)
	d := demand{high: i.high, average: i.value}
	if passed := now.Sub(i.since).Seconds(); passed > 0 {
		d.average = i.sum / passed
		d.deviation = math.Sqrt(max(0, i.squares/passed-d.average*d.average))
	}
	*i = integrator{since: now, last: now, value: i.value, high: i.value}
	return d
}

// claim is what a level brings to the sharing out.
type claim struct{ lower, upper, target float64 }

// share divides total among claims: each gets the same part of its target, but never less than its lower and more than its upper
// bound. It returns that part besides.
func share(total float64, claims []claim) (seats []float64, part float64) {
	seats = make([]float64, len(claims))
	give := func(part float64) (sum float64) {
		for i, c := range claims {
			seats[i] = min(c.upper, max(c.lower, part*c.target))
			sum += seats[i]
		}
		return sum
	}
	low, high := 0.0, 1.0
	if give(low) >= total {
		return seats, low // the lower bounds are more than there is
	}
	for high < 1e9 && give(high) < total {
		high *= 2
	}
	for range 60 {
		if part = (low + high) / 2; give(part) < total {
			low = part
		} else {
			high = part
		}
	}
	give(high)
	return seats, high
}

// Run draws the limits anew until ctx ends.
func (c *Controller) Run(ctx context.Context) {
	ticker := c.config.Clock.NewTicker(borrowingInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
			c.adjust()
		}
	}
}

// adjust is one drawing. What the exempt level took is set aside first: it does not ask.
func (c *Controller) adjust() {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.current.Load()
	if s == nil {
		return
	}
	var names []string
	var claims []claim
	total, lowest := 0.0, 0.0
	for name, level := range s.levels {
		limits, state := c.limits[name], c.borrowing[name]
		if state == nil {
			state = &borrowing{}
			c.borrowing[name] = state
		}
		state.take(level.queues.period())
		total += float64(limits.nominal)
		least := max(float64(limits.lower), min(float64(limits.nominal), state.last.high))
		target := max(least, state.smoothed, 1e-3)
		state.target = target
		if level.isExempt() {
			limits.current = int(math.Round(max(least, min(float64(limits.upper), state.smoothed))))
			c.limits[name] = limits
			total -= float64(limits.current)
			continue
		}
		names = append(names, name)
		claims = append(claims, claim{lower: least, upper: float64(limits.upper), target: target})
		lowest += least
	}
	if total < lowest {
		// There is not enough for what each could use of its own: share that above what they always keep.
		for i, name := range names {
			claims[i].target, claims[i].lower = max(claims[i].lower, 1e-3), float64(c.limits[name].lower)
		}
	}
	seats, part := share(total, claims)
	c.fairPart = part
	for i, name := range names {
		limits := c.limits[name]
		limits.current = max(1, int(math.Round(seats[i])))
		c.limits[name] = limits
		c.sets[name].lend(limits.current)
	}
}

// borrowing is what is remembered of a level's demand.
type borrowing struct {
	last             demand
	smoothed, target float64
}

// take adds a period: a demand that rises counts at once, one that falls is forgotten slowly.
func (b *borrowing) take(d demand) {
	b.last = d
	envelope := d.average + d.deviation
	b.smoothed = max(envelope, smoothing*b.smoothed+(1-smoothing)*envelope)
}
