package component

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

// TestDemoted: what a library calls an error is told at level 2 only, with its cause.
func TestDemoted(t *testing.T) {
	for level, want := range map[int]string{0: "", 2: "kubelet I "} {
		out, text := testOutput()
		out.levels[""] = level
		ctx := klog.NewContext(context.Background(), logr.New(&sink{component: "kubelet", out: out}))
		klog.FromContext(Demoted(ctx)).WithValues("pod", "a").Error(errors.New("broken pipe"), "Copying")
		got := text.String()
		if !strings.HasPrefix(got, want) || (got == "") != (want == "") || want != "" && !strings.Contains(got, `pod="a"  err="broken pipe"`) {
			t.Errorf("level %d: %q", level, got)
		}
	}
}

// TestOutliving: errors are errors until the component ends, and the context goes on after that.
func TestOutliving(t *testing.T) {
	out, text := testOutput()
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), logr.New(&sink{component: "kubelet", out: out})))
	outliving := Outliving(ctx)
	klog.FromContext(outliving).Error(nil, "before")
	cancel()
	klog.FromContext(outliving).Error(nil, "after")
	if got := text.String(); !strings.Contains(got, "kubelet E ") || !strings.Contains(got, "before") || strings.Contains(got, "after") {
		t.Errorf("log: %q", got)
	}
	if outliving.Err() != nil {
		t.Error("the context ended with its parent")
	}
}

// TestQuietWithoutSink: a logger that says nothing says nothing here as well; it does not end the process.
func TestQuietWithoutSink(t *testing.T) {
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), klog.Logger{}))
	klog.FromContext(Demoted(ctx)).WithName("n").Error(errors.New("broken pipe"), "Copying")
	outliving := Outliving(ctx)
	klog.FromContext(outliving).WithValues("k", "v").Error(nil, "before")
	cancel()
	klog.FromContext(outliving).Error(nil, "after")
}
