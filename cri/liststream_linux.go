package cri

import (
	"slices"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// listPiece is how many items one message of a streamed list holds: a node with
// very many pods has longer lists than a message can be (KEP-5825).
const listPiece = 500

// inPieces sends a list in several messages; an empty one needs none.
func inPieces[T any](items []T, err error, send func([]T) error) error {
	if err != nil {
		return grpcError(err)
	}
	for piece := range slices.Chunk(items, listPiece) {
		if err := send(piece); err != nil {
			return err
		}
	}
	return nil
}

// StreamPodSandboxes is ListPodSandbox in pieces.
func (c *CRI) StreamPodSandboxes(req *runtimeapi.StreamPodSandboxesRequest, stream runtimeapi.RuntimeService_StreamPodSandboxesServer) error {
	all, err := c.ListPodSandbox(stream.Context(), &runtimeapi.ListPodSandboxRequest{Filter: req.Filter})
	return inPieces(all.GetItems(), err, func(piece []*runtimeapi.PodSandbox) error {
		return stream.Send(&runtimeapi.StreamPodSandboxesResponse{PodSandboxes: piece})
	})
}

// StreamContainers is ListContainers in pieces.
func (c *CRI) StreamContainers(req *runtimeapi.StreamContainersRequest, stream runtimeapi.RuntimeService_StreamContainersServer) error {
	all, err := c.ListContainers(stream.Context(), &runtimeapi.ListContainersRequest{Filter: req.Filter})
	return inPieces(all.GetContainers(), err, func(piece []*runtimeapi.Container) error {
		return stream.Send(&runtimeapi.StreamContainersResponse{Containers: piece})
	})
}

// StreamContainerStats is ListContainerStats in pieces.
func (c *CRI) StreamContainerStats(req *runtimeapi.StreamContainerStatsRequest, stream runtimeapi.RuntimeService_StreamContainerStatsServer) error {
	all, err := c.ListContainerStats(stream.Context(), &runtimeapi.ListContainerStatsRequest{Filter: req.Filter})
	return inPieces(all.GetStats(), err, func(piece []*runtimeapi.ContainerStats) error {
		return stream.Send(&runtimeapi.StreamContainerStatsResponse{ContainerStats: piece})
	})
}

// StreamPodSandboxStats is ListPodSandboxStats in pieces.
func (c *CRI) StreamPodSandboxStats(req *runtimeapi.StreamPodSandboxStatsRequest, stream runtimeapi.RuntimeService_StreamPodSandboxStatsServer) error {
	all, err := c.ListPodSandboxStats(stream.Context(), &runtimeapi.ListPodSandboxStatsRequest{Filter: req.Filter})
	return inPieces(all.GetStats(), err, func(piece []*runtimeapi.PodSandboxStats) error {
		return stream.Send(&runtimeapi.StreamPodSandboxStatsResponse{PodSandboxStats: piece})
	})
}

// StreamImages is ListImages in pieces.
func (c *CRI) StreamImages(req *runtimeapi.StreamImagesRequest, stream runtimeapi.ImageService_StreamImagesServer) error {
	all, err := c.ListImages(stream.Context(), &runtimeapi.ListImagesRequest{Filter: req.Filter})
	return inPieces(all.GetImages(), err, func(piece []*runtimeapi.Image) error {
		return stream.Send(&runtimeapi.StreamImagesResponse{Images: piece})
	})
}
