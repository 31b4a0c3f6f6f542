package cri

import (
	"context"
	"errors"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// gone is who asked and went away so late that nothing on the way noticed.
type gone struct{ context.Context }

func (gone) Err() error { return context.Canceled }

// Who asks for a sandbox and goes away before it is there never learns its ID: there is none then, or nobody would ever end it.
func TestNobodysSandbox(t *testing.T) {
	n := startNode(t)
	_, err := n.within.RunPodSandbox(gone{context.Background()}, &runtimeapi.RunPodSandboxRequest{Config: n.podConfig("gone")})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was given up", err)
	}
	list, err := n.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{})
	if err != nil || len(list.Items) > 0 {
		t.Errorf("%v, %v", list, err)
	}
	n.checkMountsAndLinks(1)
}
