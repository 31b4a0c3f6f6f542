package images

import (
	"context"
	"errors"
	"sort"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	testingclock "k8s.io/utils/clock/testing"
)

// shelf is an image service that lists and removes.
type shelf struct {
	runtimeapi.ImageServiceClient
	images map[string]*runtimeapi.Image
}

func (s *shelf) ListImages(context.Context, *runtimeapi.ListImagesRequest, ...grpc.CallOption) (*runtimeapi.ListImagesResponse, error) {
	response := &runtimeapi.ListImagesResponse{}
	for _, image := range s.images {
		response.Images = append(response.Images, image)
	}
	return response, nil
}

func (s *shelf) RemoveImage(_ context.Context, r *runtimeapi.RemoveImageRequest, _ ...grpc.CallOption) (*runtimeapi.RemoveImageResponse, error) {
	delete(s.images, r.Image.Image)
	return &runtimeapi.RemoveImageResponse{}, nil
}

func (s *shelf) has() string {
	var ids []string
	for id := range s.images {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	return strings.Join(ids, " ")
}

// What goes when the disk is full: the longest unused first, and no more than is needed.
func TestImageGarbageCollection(t *testing.T) {
	cases := []struct {
		name   string
		policy GCPolicy
		disk   []int64 // capacity, available
		all    bool    // DeleteUnusedImages
		left   string
		failed bool
	}{
		{"the disk has room", GCPolicy{HighThresholdPercent: 85, LowThresholdPercent: 80}, []int64{1000, 200}, false, "new old pinned used young", false},
		{"down to the low threshold", GCPolicy{HighThresholdPercent: 85, LowThresholdPercent: 80}, []int64{1000, 150}, false, "new pinned used young", false},
		{"all that may go is not enough", GCPolicy{HighThresholdPercent: 85, LowThresholdPercent: 50}, []int64{1000, 100}, false, "pinned used young", true},
		{"100 percent: never", GCPolicy{HighThresholdPercent: 100, LowThresholdPercent: 80}, []int64{1000, 0}, false, "new old pinned used young", false},
		{"by age", GCPolicy{HighThresholdPercent: 100, LowThresholdPercent: 80, MaxAge: 90 * time.Minute}, []int64{1000, 500}, false, "new pinned used young", false},
		{"under pressure", GCPolicy{HighThresholdPercent: 85, LowThresholdPercent: 80}, []int64{1000, 500}, true, "pinned used", false},
	}
	for _, c := range cases {
		clock := testingclock.NewFakeClock(time.Unix(1e9, 0))
		s := &shelf{images: map[string]*runtimeapi.Image{}}
		add := func(id string, pinned bool) {
			s.images[id] = &runtimeapi.Image{Id: id, RepoTags: []string{id + ":v1"}, Size: 100, Pinned: pinned}
		}
		recorder := record.NewFakeRecorder(10)
		c.policy.MinAge = 2 * time.Minute
		used := map[string]bool{"used:v1": true, "new": true}
		m := NewImageGCManager(GCConfig{Policy: c.policy, Images: s, Recorder: recorder, Node: &v1.ObjectReference{}, Clock: clock,
			InUse: func(context.Context) (map[string]bool, error) { return used, nil },
			Disk:  func(context.Context) (int64, int64, error) { return c.disk[0], c.disk[1], nil }})
		add("old", false)
		add("pinned", true)
		add("used", false)
		add("new", false)
		if err := m.detect(t.Context(), clock.Now()); err != nil {
			t.Fatal(err)
		}
		clock.Step(time.Hour)
		if err := m.detect(t.Context(), clock.Now()); err != nil { // "new" is still used now
			t.Fatal(err)
		}
		clock.Step(time.Hour)
		delete(used, "new")
		add("young", false)
		var err error
		if c.all {
			err = m.DeleteUnusedImages(t.Context())
		} else {
			err = m.GarbageCollect(t.Context())
		}
		if s.has() != c.left || (err != nil) != c.failed {
			t.Errorf("%s: left %q, want %q (%v)", c.name, s.has(), c.left, err)
		}
		event := ""
		select {
		case event = <-recorder.Events:
		default:
		}
		if strings.Contains(event, "FreeDiskSpaceFailed") != c.failed {
			t.Errorf("%s: event %q", c.name, event)
		}
	}
}

// A runtime that cannot tell what is used must not lose what is.
func TestNoCollectionInTheDark(t *testing.T) {
	s := &shelf{images: map[string]*runtimeapi.Image{"a": {Id: "a", Size: 1}}}
	m := NewImageGCManager(GCConfig{Images: s, Clock: testingclock.NewFakeClock(time.Unix(1e9, 0)),
		InUse: func(context.Context) (map[string]bool, error) { return nil, errors.New("down") }})
	if err := m.DeleteUnusedImages(t.Context()); err == nil || s.has() != "a" {
		t.Errorf("left %q, %v", s.has(), err)
	}
}
