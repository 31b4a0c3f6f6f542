package service

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
)

var (
	errAllocated  = errors.New("provided IP is already allocated")
	errFull       = errors.New("range is full")
	errMismatched = errors.New("the provided network does not match the current range")
)

// allocator gives out the numbers below size, each to one owner at a time.
//
// Invariants: reserved numbers are never chosen, though they may be asked for;
// the first band numbers are chosen only when no other is left, so that people
// have room for numbers of their own choice.
type allocator struct {
	size     int
	band     int
	reserved map[int]bool

	mu   sync.Mutex
	used map[int]bool
}

func newAllocator(size, band int, reserved ...int) *allocator {
	a := &allocator{size: size, band: band, used: map[int]bool{}, reserved: map[int]bool{}}
	for _, n := range reserved {
		a.reserved[n] = true
	}
	return a
}

// ipBand is the part of a range of addresses that is kept for requests: a 16th, but at least 16 and at most 256 (KEP-3070).
func ipBand(size int) int { return band(size, 16, 256) }

// portBand is the same of a range of ports: a 32nd, at least 16 and at most 128 (KEP-3668).
func portBand(size int) int { return band(size, 32, 128) }

const leastBand = 16

func band(size, part, most int) int {
	if size < leastBand {
		return 0 // it is too small to keep anything
	}
	return min(max(size/part, leastBand), most)
}

// take gives out n if it is free.
func (a *allocator) take(n int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.used[n] {
		return false
	}
	a.used[n] = true
	return true
}

// next gives out any free number.
func (a *allocator) next() (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n, ok := a.probe(a.band, a.size); ok {
		return n, nil
	}
	if n, ok := a.probe(0, a.band); ok {
		return n, nil
	}
	return 0, errFull
}

// probe looks for a free number in [from, to), from a random place on: neighbours
// in time should not be neighbours in address, lest one takes over the other's caches.
func (a *allocator) probe(from, to int) (int, bool) {
	if to <= from {
		return 0, false
	}
	start := rand.IntN(to - from)
	for i := range to - from {
		n := from + (start+i)%(to-from)
		if !a.used[n] && !a.reserved[n] {
			a.used[n] = true
			return n, true
		}
	}
	return 0, false
}

func (a *allocator) release(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.used, n)
}

// has says whether n is given out.
func (a *allocator) has(n int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used[n]
}

// all are the numbers that are given out, in their order.
func (a *allocator) all() []int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.used))
}
