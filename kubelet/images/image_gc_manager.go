package images

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// GCPolicy says when images that nothing uses go.
type GCPolicy struct {
	// HighThresholdPercent of the disk in use begins a clean-up, down to
	// LowThresholdPercent. 100: none, but by age and under disk pressure.
	HighThresholdPercent, LowThresholdPercent int
	// MinAge is how long an image is left alone after it came: it may have been
	// pulled for a container that is about to be made.
	MinAge time.Duration
	// MaxAge is how long an image may go unused; 0: for ever.
	MaxAge time.Duration
}

// GCConfig of an ImageGCManager. All fields are needed.
type GCConfig struct {
	Policy GCPolicy
	Images runtimeapi.ImageServiceClient
	// InUse names the images that containers were made from, by any of their names.
	InUse func(ctx context.Context) (map[string]bool, error)
	// Disk is the file system of images: bytes in all, and left.
	Disk     func(ctx context.Context) (capacity, available int64, err error)
	Recorder record.EventRecorder
	Node     *v1.ObjectReference
	Clock    clock.Clock
}

// ImageGCManager removes images that nothing uses: the longest unused first.
//
// Invariant: an image that a container was made from stays, as do pinned ones,
// among them what the node cannot do without.
type ImageGCManager struct {
	GCConfig
	mu      sync.Mutex
	records map[string]*imageRecord
}

// imageRecord is what is known of one image.
type imageRecord struct {
	id            string
	firstDetected time.Time
	lastUsed      time.Time
	size          int64
	pinned        bool
}

// NewImageGCManager makes a manager.
func NewImageGCManager(cfg GCConfig) *ImageGCManager {
	return &ImageGCManager{GCConfig: cfg, records: map[string]*imageRecord{}}
}

// GarbageCollect removes what is unused for too long, and, if the disk is fuller
// than the high threshold, the oldest of the rest until it is at the low one.
func (m *ImageGCManager) GarbageCollect(ctx context.Context) error {
	now := m.Clock.Now()
	if err := m.detect(ctx, now); err != nil {
		return err
	}
	if m.Policy.MaxAge > 0 {
		if _, err := m.remove(ctx, removable(m.list(), now, m.Policy.MinAge, func(r imageRecord, _ int64) bool {
			return now.Sub(latest(r.lastUsed, r.firstDetected)) > m.Policy.MaxAge
		})); err != nil {
			return err
		}
	}
	capacity, available, err := m.Disk(ctx)
	if err != nil {
		return fmt.Errorf("asking for the room on the disk of images: %w", err)
	}
	if capacity == 0 {
		m.Recorder.Event(m.Node, v1.EventTypeWarning, "InvalidDiskCapacity", "invalid capacity 0 on image filesystem")
		return errors.New("invalid capacity 0 on image filesystem")
	}
	toFree := bytesToFree(m.Policy, capacity, available)
	if toFree <= 0 {
		return nil
	}
	klog.FromContext(ctx).Info("The disk of images is fuller than the high threshold: removing unused images", "high", m.Policy.HighThresholdPercent, "low", m.Policy.LowThresholdPercent, "bytesToFree", toFree)
	freed, err := m.remove(ctx, removable(m.list(), now, m.Policy.MinAge, func(_ imageRecord, before int64) bool { return before < toFree }))
	if err != nil {
		return err
	}
	if freed < toFree {
		err := fmt.Errorf("Failed to garbage collect required amount of images. Attempted to free %d bytes, but only found %d bytes eligible to free.", toFree, freed)
		m.Recorder.Event(m.Node, v1.EventTypeWarning, "FreeDiskSpaceFailed", err.Error())
		return err
	}
	return nil
}

// bytesToFree is how much has to go; 0 or less: nothing. It is pure.
func bytesToFree(p GCPolicy, capacity, available int64) int64 {
	available = min(available, capacity)
	if used := 100 - available*100/capacity; p.HighThresholdPercent >= 100 || used < int64(p.HighThresholdPercent) {
		return 0
	}
	return capacity*int64(100-p.LowThresholdPercent)/100 - available
}

// DeleteUnusedImages removes all that nothing uses, whatever its age: the node is
// short of disk.
func (m *ImageGCManager) DeleteUnusedImages(ctx context.Context) error {
	now := m.Clock.Now()
	if err := m.detect(ctx, now); err != nil {
		return err
	}
	freed, err := m.remove(ctx, removable(m.list(), now, 0, func(imageRecord, int64) bool { return true }))
	klog.FromContext(ctx).Info("Removed the images that nothing uses", "bytes", freed)
	return err
}

// detect brings the records up to date. An image in use is used now.
func (m *ImageGCManager) detect(ctx context.Context, now time.Time) error {
	inUse, err := m.InUse(ctx)
	if err != nil {
		return fmt.Errorf("asking which images are in use: %w", err)
	}
	response, err := m.Images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return fmt.Errorf("listing images: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	here := map[string]bool{}
	for _, image := range response.Images {
		here[image.Id] = true
		r := m.records[image.Id]
		if r == nil {
			r = &imageRecord{id: image.Id, firstDetected: now}
			m.records[image.Id] = r
		}
		r.size, r.pinned = int64(image.Size), image.Pinned
		for _, name := range append(append([]string{image.Id}, image.RepoDigests...), image.RepoTags...) {
			if inUse[name] {
				r.lastUsed = now
			}
		}
	}
	for id := range m.records {
		if !here[id] {
			delete(m.records, id)
		}
	}
	return nil
}

func (m *ImageGCManager) list() []imageRecord {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []imageRecord
	for _, r := range m.records {
		list = append(list, *r)
	}
	return list
}

// removable are the images to remove, the longest unused first: neither in use as
// of now, nor pinned, nor younger than minAge, and wanted by more, which is told
// the bytes of those before. It is pure.
func removable(list []imageRecord, now time.Time, minAge time.Duration, more func(r imageRecord, before int64) bool) []imageRecord {
	sort.Slice(list, func(i, j int) bool {
		a, b := list[i], list[j]
		switch {
		case !a.lastUsed.Equal(b.lastUsed):
			return a.lastUsed.Before(b.lastUsed)
		case !a.firstDetected.Equal(b.firstDetected):
			return a.firstDetected.Before(b.firstDetected)
		}
		return a.id < b.id
	})
	var result []imageRecord
	before := int64(0)
	for _, r := range list {
		if !r.lastUsed.Before(now) || r.pinned || now.Sub(r.firstDetected) < minAge || !more(r, before) {
			continue
		}
		result = append(result, r)
		before += r.size
	}
	return result
}

func (m *ImageGCManager) remove(ctx context.Context, list []imageRecord) (freed int64, err error) {
	var errs []error
	for _, r := range list {
		klog.FromContext(ctx).Info("Removing an image that nothing uses", "image", r.id, "bytes", r.size)
		if _, err := m.Images.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: r.id}}); err != nil {
			errs = append(errs, fmt.Errorf("removing image %s: %w", r.id, err))
			continue
		}
		m.mu.Lock()
		delete(m.records, r.id)
		m.mu.Unlock()
		freed += r.size
	}
	return freed, errors.Join(errs...)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
