// Package imagelocality prefers nodes that already have the pod's images, the more
// so the larger the images are.
package imagelocality

import (
	"context"
	"strings"

	v1 "k8s.io/api/core/v1"

	"hyperkube/scheduler/framework"
)

// Name of the plugin.
const Name = "ImageLocality"

// Between these sums of image sizes the score grows from 0 to 100.
const (
	minThreshold          int64 = 23 * 1024 * 1024
	maxContainerThreshold int64 = 1000 * 1024 * 1024 // a container
)

// ImageLocality is a Score plugin.
type ImageLocality struct {
	handle framework.Handle
}

// New returns the plugin.
func New(_ context.Context, h framework.Handle, _ framework.Args) (framework.Plugin, error) {
	return &ImageLocality{handle: h}, nil
}

// Name returns the plugin's name.
func (*ImageLocality) Name() string { return Name }

const preScoreStateKey = "PreScore" + Name

// preScoreState is the pod's images by the names that nodes report.
type preScoreState struct {
	images []string
}

// Clone returns the state itself: it never changes.
func (s *preScoreState) Clone() framework.StateData { return s }

// PreScore completes the image names, once for all nodes.
func (*ImageLocality) PreScore(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, _ []*framework.NodeInfo) *framework.Status {
	s := &preScoreState{}
	for _, containers := range [][]v1.Container{pod.Pod.Spec.InitContainers, pod.Pod.Spec.Containers} {
		for i := range containers {
			s.images = append(s.images, normalizedImageName(containers[i].Image))
		}
	}
	state.Write(preScoreStateKey, s)
	return nil
}

// Score adds up the sizes of the pod's images on the node. Each is weighed by the
// share of nodes that have it: otherwise a rare image would draw all its pods onto
// the one node that happened to pull it first.
func (pl *ImageLocality) Score(_ context.Context, state *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	data, err := state.Read(preScoreStateKey)
	if err != nil {
		return 0, framework.AsStatus(err)
	}
	images, totalNodes := data.(*preScoreState).images, len(pl.handle.SnapshotSharedLister().List())
	var sum int64
	for _, image := range images {
		if summary, ok := node.ImageStates[image]; ok && totalNodes > 0 {
			sum += int64(float64(summary.Size) * float64(summary.NumNodes) / float64(totalNodes))
		}
	}
	return calculatePriority(sum, len(images)), nil
}

func calculatePriority(sum int64, containers int) int64 {
	maxThreshold := maxContainerThreshold * int64(containers)
	sum = min(max(sum, minThreshold), maxThreshold)
	return framework.MaxNodeScore * (sum - minThreshold) / (maxThreshold - minThreshold)
}

// normalizedImageName adds the tag that is meant when none is given; nodes report
// full names.
func normalizedImageName(name string) string {
	if strings.LastIndex(name, ":") <= strings.LastIndex(name, "/") {
		name += ":latest"
	}
	return name
}
