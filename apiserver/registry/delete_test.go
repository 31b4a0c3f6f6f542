package registry

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
)

// graceful is a strategy with a grace period, as pods have.
type graceful struct {
	Plain
	seconds int64
}

func (g graceful) CheckGracefulDelete(_ context.Context, _ runtime.Object, options *metav1.DeleteOptions) int64 {
	if options.GracePeriodSeconds != nil {
		return *options.GracePeriodSeconds
	}
	return g.seconds
}

func pointer[T any](v T) *T { return &v }

// What a DELETE comes to: gone at once, marked, hastened, or nothing (API conventions, "Graceful deletion", "Finalizers").
func TestDecideDeletion(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(seconds int) *metav1.Time {
		return pointer(metav1.NewTime(now.Add(time.Duration(seconds) * time.Second)))
	}
	for name, test := range map[string]struct {
		meta    metav1.ObjectMeta
		grace   int64
		options metav1.DeleteOptions
		// want: "now", "pending", or "marked <seconds from now> <grace> <generation> <finalizers>".
		want string
	}{
		"nothing holds it":              {want: "now"},
		"a finalizer holds it":          {meta: metav1.ObjectMeta{Finalizers: []string{"f"}}, want: "marked 0 0 0 [f]"},
		"a grace period":                {grace: 30, meta: metav1.ObjectMeta{Generation: 4}, want: "marked 30 30 5 []"},
		"grace period of the options":   {grace: 30, options: metav1.DeleteOptions{GracePeriodSeconds: pointer(int64(5))}, want: "marked 5 5 0 []"},
		"a grace period of 0":           {grace: 30, options: metav1.DeleteOptions{GracePeriodSeconds: pointer(int64(0))}, want: "now"},
		"foreground":                    {options: metav1.DeleteOptions{PropagationPolicy: pointer(metav1.DeletePropagationForeground)}, want: "marked 0 0 0 [foregroundDeletion]"},
		"orphan":                        {options: metav1.DeleteOptions{OrphanDependents: pointer(true)}, want: "marked 0 0 0 [orphan]"},
		"background takes orphan away":  {meta: metav1.ObjectMeta{Finalizers: []string{"orphan"}}, options: metav1.DeleteOptions{PropagationPolicy: pointer(metav1.DeletePropagationBackground)}, want: "now"},
		"marked, asked again":           {meta: metav1.ObjectMeta{DeletionTimestamp: at(10), DeletionGracePeriodSeconds: pointer(int64(30))}, want: "pending"},
		"marked, asked for longer":      {meta: metav1.ObjectMeta{DeletionTimestamp: at(10), DeletionGracePeriodSeconds: pointer(int64(30))}, options: metav1.DeleteOptions{GracePeriodSeconds: pointer(int64(60))}, want: "pending"},
		"marked, hastened":              {meta: metav1.ObjectMeta{DeletionTimestamp: at(10), DeletionGracePeriodSeconds: pointer(int64(30))}, options: metav1.DeleteOptions{GracePeriodSeconds: pointer(int64(25))}, want: "marked 5 25 0 []"},
		"marked, the kubelet is done":   {meta: metav1.ObjectMeta{DeletionTimestamp: at(10), DeletionGracePeriodSeconds: pointer(int64(30))}, options: metav1.DeleteOptions{GracePeriodSeconds: pointer(int64(0))}, want: "now"},
		"done, but a finalizer holds":   {meta: metav1.ObjectMeta{Finalizers: []string{"f"}, DeletionTimestamp: at(10), DeletionGracePeriodSeconds: pointer(int64(30))}, options: metav1.DeleteOptions{GracePeriodSeconds: pointer(int64(0))}, want: "marked -20 0 0 [f]"},
		"waits for its finalizers":      {meta: metav1.ObjectMeta{Finalizers: []string{"f"}, DeletionTimestamp: at(0), DeletionGracePeriodSeconds: pointer(int64(0))}, want: "pending"},
		"waits, then to be orphaned":    {meta: metav1.ObjectMeta{Finalizers: []string{"foregroundDeletion"}, DeletionTimestamp: at(0), DeletionGracePeriodSeconds: pointer(int64(0))}, options: metav1.DeleteOptions{PropagationPolicy: pointer(metav1.DeletePropagationOrphan)}, want: "marked 0 0 0 [orphan]"},
		"marked without a grace period": {meta: metav1.ObjectMeta{DeletionTimestamp: at(0)}, want: "now"},
	} {
		s := &Store{Resource: &Resource{Strategy: graceful{seconds: test.grace}}, env: &Env{Clock: clocktesting.NewFakeClock(now)}}
		d := s.decideDeletion(context.Background(), &corev1.Pod{ObjectMeta: test.meta}, &test.options)
		got := "now"
		if d.pending {
			got = "pending"
		} else if !d.now {
			m := d.marked.(*corev1.Pod).ObjectMeta
			got = fmt.Sprintf("marked %d %d %d %v", int(m.DeletionTimestamp.Sub(now).Seconds()), *m.DeletionGracePeriodSeconds, m.Generation, m.Finalizers)
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// A namespace is held by spec.finalizers, without a grace period of its own.
func TestDecideDeletionOfWhatIsHeld(t *testing.T) {
	s := &Store{env: &Env{}, Resource: &Resource{Strategy: Plain{}, Hooks: Hooks{
		Held:        func(obj runtime.Object) bool { return len(obj.(*corev1.Namespace).Spec.Finalizers) > 0 },
		MarkDeleted: func(obj runtime.Object) { obj.(*corev1.Namespace).Status.Phase = corev1.NamespaceTerminating },
	}}}
	ns := &corev1.Namespace{Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}}}
	d := s.decideDeletion(context.Background(), ns, &metav1.DeleteOptions{})
	marked := d.marked.(*corev1.Namespace)
	if d.now || d.pending || marked.Status.Phase != corev1.NamespaceTerminating || marked.DeletionTimestamp == nil || marked.DeletionGracePeriodSeconds != nil {
		t.Errorf("%+v", d)
	}
	if again := s.decideDeletion(context.Background(), marked, &metav1.DeleteOptions{}); !again.pending {
		t.Errorf("asked again: %+v", again)
	}
	marked.Spec.Finalizers = nil
	if last := s.decideDeletion(context.Background(), marked, &metav1.DeleteOptions{}); !last.now {
		t.Errorf("nothing holds it any more: %+v", last)
	}
	if !s.nothingHolds(marked, marked) {
		t.Error("an update that empties spec.finalizers must remove it")
	}
}

// A generated name fits into a label, however long its base.
func TestGenerateName(t *testing.T) {
	long := fmt.Sprintf("%080d", 0)
	if got := generateName(long, "abcde"); len(got) != 63 || got[58:] != "abcde" || got[:58] != long[:58] {
		t.Errorf("%q has %d characters", got, len(got))
	}
	if got := generateName("web-", "abcde"); got != "web-abcde" {
		t.Errorf("%q", got)
	}
}
