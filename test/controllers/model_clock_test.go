package controllers

import (
	"time"

	"k8s.io/utils/clock"
)

// fastClock runs so many times as fast as the real one: a Job that waits ten seconds after a
// failed pod, and longer after each, would make the model test wait for nothing.
type fastClock struct {
	clock.RealClock
	began time.Time
	speed time.Duration
}

func newFastClock(speed int) *fastClock {
	return &fastClock{began: time.Now(), speed: time.Duration(speed)}
}

func (f *fastClock) Now() time.Time                         { return f.began.Add(f.speed * time.Since(f.began)) }
func (f *fastClock) Since(t time.Time) time.Duration        { return f.Now().Sub(t) }
func (f *fastClock) After(d time.Duration) <-chan time.Time { return time.After(d / f.speed) }
func (f *fastClock) NewTicker(d time.Duration) clock.Ticker {
	return f.RealClock.NewTicker(d / f.speed)
}
func (f *fastClock) NewTimer(d time.Duration) clock.Timer {
	return fastTimer{f.RealClock.NewTimer(d / f.speed), f.speed}
}

type fastTimer struct {
	clock.Timer
	speed time.Duration
}

func (t fastTimer) Reset(d time.Duration) bool { return t.Timer.Reset(d / t.speed) }
