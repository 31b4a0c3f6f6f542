package priority

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

func class(name string, value int32, global bool) *schedulingv1.PriorityClass {
	return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value, GlobalDefault: global}
}

func newPlugin(classes ...*schedulingv1.PriorityClass) plugin.Plugin {
	return New(lister.Slice(schema.GroupResource{Group: "scheduling.k8s.io", Resource: "priorityclasses"}, classes...))
}

func attributes(op request.Operation, resource string, obj, old runtime.Object) *request.AdmissionAttributes {
	gvr := schema.GroupVersionResource{Version: "v1", Resource: resource}
	if resource == "priorityclasses" {
		gvr.Group = schedulingv1.GroupName
	}
	return &request.AdmissionAttributes{Operation: op, Resource: gvr, Name: "x", Object: obj, OldObject: old}
}

func TestPods(t *testing.T) {
	never := class("polite", 10, false)
	never.PreemptionPolicy = ptr.To(corev1.PreemptNever)
	for name, test := range map[string]struct {
		spec     corev1.PodSpec
		classes  []*schedulingv1.PriorityClass
		class    string
		priority int32
		policy   corev1.PreemptionPolicy
		err      string
	}{
		"no class":                 {priority: 0, policy: corev1.PreemptLowerPriority},
		"the global default":       {classes: []*schedulingv1.PriorityClass{class("usual", 5, true)}, class: "usual", priority: 5, policy: corev1.PreemptLowerPriority},
		"a class":                  {spec: corev1.PodSpec{PriorityClassName: "polite"}, classes: []*schedulingv1.PriorityClass{never}, class: "polite", priority: 10, policy: corev1.PreemptNever},
		"of the system":            {spec: corev1.PodSpec{PriorityClassName: "system-node-critical"}, class: "system-node-critical", priority: 2000001000, policy: corev1.PreemptLowerPriority},
		"of the cluster":           {spec: corev1.PodSpec{PriorityClassName: "system-cluster-critical"}, class: "system-cluster-critical", priority: 2000000000, policy: corev1.PreemptLowerPriority},
		"missing":                  {spec: corev1.PodSpec{PriorityClassName: "none"}, err: "no PriorityClass with name none was found"},
		"a number that agrees":     {spec: corev1.PodSpec{Priority: ptr.To(int32(0))}, policy: corev1.PreemptLowerPriority},
		"a number that does not":   {spec: corev1.PodSpec{Priority: ptr.To(int32(9))}, err: "the integer value of priority (9) must not be provided in pod spec; priority admission controller computed 0"},
		"a policy that does not":   {spec: corev1.PodSpec{PreemptionPolicy: ptr.To(corev1.PreemptNever)}, err: "the string value of PreemptionPolicy (Never) must not be provided"},
		"the lowest of two global": {classes: []*schedulingv1.PriorityClass{class("a", 7, true), class("b", 3, true)}, class: "b", priority: 3, policy: corev1.PreemptLowerPriority},
	} {
		pod := &corev1.Pod{Spec: test.spec}
		p := newPlugin(test.classes...)
		err := p.Admit(t.Context(), attributes(request.Create, "pods", pod, nil))
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || pod.Spec.PriorityClassName != test.class || *pod.Spec.Priority != test.priority || *pod.Spec.PreemptionPolicy != test.policy {
			t.Errorf("%s: %v %+v", name, err, pod.Spec)
		}
	}
}

// A PUT by a client that leaves the numbers out must not lose them.
func TestUpdateKeeps(t *testing.T) {
	old := &corev1.Pod{Spec: corev1.PodSpec{Priority: ptr.To(int32(7)), PreemptionPolicy: ptr.To(corev1.PreemptNever)}}
	pod := &corev1.Pod{}
	p := newPlugin()
	if err := p.Admit(t.Context(), attributes(request.Update, "pods", pod, old)); err != nil || *pod.Spec.Priority != 7 || *pod.Spec.PreemptionPolicy != corev1.PreemptNever {
		t.Errorf("%v %+v", err, pod.Spec)
	}
}

func TestOneGlobalDefault(t *testing.T) {
	p := newPlugin(class("first", 1, true))
	if err := p.Validate(t.Context(), attributes(request.Create, "priorityclasses", class("second", 2, true), nil)); err == nil || !strings.Contains(err.Error(), "PriorityClass first is already marked as default") {
		t.Error(err)
	}
	if err := p.Validate(t.Context(), attributes(request.Update, "priorityclasses", class("first", 1, true), nil)); err != nil {
		t.Error(err)
	}
	if err := p.Validate(t.Context(), attributes(request.Create, "priorityclasses", class("third", 2, false), nil)); err != nil {
		t.Error(err)
	}
}
