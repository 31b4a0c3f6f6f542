// Package stats measures what the kernel alone can tell of the node: file systems,
// what a directory takes on one, process numbers, interfaces. What containers use,
// the runtime measures.
//
// A directory is measured by looking at each of its files, which is slow: a Meter
// remembers what it found for a while.
//
// In Kubernetes: pkg/kubelet/stats, pkg/volume/metrics_du.go, and cAdvisor. Left
// out: quotas of the file system (XFS), which would count without looking.
package stats

import (
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// Usage is what a directory takes.
type Usage struct {
	Bytes, Inodes uint64
	At            time.Time
}

// Meter measures directories, each at most once an age. It is safe for concurrent use.
type Meter struct {
	clock clock.Clock
	age   time.Duration

	mu      sync.Mutex
	samples map[string]Usage
}

// NewMeter makes a meter.
func NewMeter(c clock.Clock, age time.Duration) *Meter {
	return &Meter{clock: c, age: age, samples: map[string]Usage{}}
}

// Usage is what is below path; nothing if it is not there.
func (m *Meter) Usage(path string) Usage {
	now := m.clock.Now()
	m.mu.Lock()
	sample, known := m.samples[path]
	m.mu.Unlock()
	if known && now.Sub(sample.At) < m.age {
		return sample
	}
	sample = Usage{At: now}
	sample.Bytes, sample.Inodes = diskUsage(path)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.samples[path] = sample
	for other, s := range m.samples {
		if now.Sub(s.At) > 10*m.age { // its pod is gone
			delete(m.samples, other)
		}
	}
	return sample
}
