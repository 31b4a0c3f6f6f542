package pod

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule/ruletest"
)

// KEP-1287: processor time and memory may change, within the class of service; nothing else, and nothing goes.
func TestValidatePodResize(t *testing.T) {
	list := func(cpu, memory string) v1.ResourceList {
		l := v1.ResourceList{}
		if cpu != "" {
			l[v1.ResourceCPU] = resource.MustParse(cpu)
		}
		if memory != "" {
			l[v1.ResourceMemory] = resource.MustParse(memory)
		}
		return l
	}
	whole := func(cpu string) v1.ResourceRequirements {
		return v1.ResourceRequirements{Requests: list(cpu, "1Gi"), Limits: list(cpu, "1Gi")}
	}
	for _, test := range []struct {
		name   string
		change func(*v1.Pod)
		want   []string
	}{
		{"more", func(p *v1.Pod) { p.Spec.Containers[0].Resources.Requests = list("2", "1Gi") }, nil},
		{"one more limit", func(p *v1.Pod) { p.Spec.Containers[0].Resources.Limits = list("4", "4Gi") }, nil},
		{"a request gone", func(p *v1.Pod) { p.Spec.Containers[0].Resources.Requests = list("1", "") }, []string{"spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"}},
		{"a limit gone", func(p *v1.Pod) { p.Spec.Containers[0].Resources.Limits = nil }, []string{"spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"}},
		{"another class", func(p *v1.Pod) { p.Spec.Containers[0].Resources = whole("1") },
			[]string{"spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing"}},
		{"storage", func(p *v1.Pod) {
			p.Spec.Containers[0].Resources.Requests[v1.ResourceEphemeralStorage] = resource.MustParse("1Gi")
		}, []string{"spec: Forbidden: only cpu and memory resources are mutable"}},
		{"image", func(p *v1.Pod) { p.Spec.Containers[0].Image = "other" }, []string{"spec: Forbidden: only cpu and memory resources are mutable"}},
		{"sidecar", func(p *v1.Pod) { p.Spec.InitContainers[0].Resources = whole("2") }, nil},
		{"init container", func(p *v1.Pod) { p.Spec.InitContainers[1].Resources = whole("2") }, nil},
		{"init container, image", func(p *v1.Pod) { p.Spec.InitContainers[1].Image = "other" }, []string{"spec.initContainers[1]: Forbidden: only cpu and memory resources for init or sidecar containers are mutable"}},
		{"renamed", func(p *v1.Pod) { p.Spec.Containers[0].Name = "b" }, []string{"spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize"}},
		{"container more", func(p *v1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: "c", Image: "a", TerminationMessagePolicy: "File", ImagePullPolicy: "Always"})
		}, []string{"spec.containers: Forbidden: containers may not be added or removed on resize"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			old := &v1.Pod{Spec: v1.PodSpec{
				Containers: []v1.Container{{Name: "a", Image: "a", Resources: v1.ResourceRequirements{Requests: list("1", "1Gi"), Limits: list("4", "")}}},
				InitContainers: []v1.Container{
					{Name: "s", Image: "a", RestartPolicy: ptr.To(v1.ContainerRestartPolicyAlways), Resources: whole("1")},
					{Name: "i", Image: "a", Resources: whole("1")},
				},
			}}
			old.Name, old.Namespace = "p", "default"
			SetDefaultsPod(old)
			old.Status.QOSClass = ComputePodQOS(&old.Spec)
			pod := old.DeepCopy()
			test.change(pod)
			before := pod.DeepCopy()
			ruletest.Expect(t, ValidatePodResize(pod, old), test.want...)
			if pod.Spec.Containers[0].Resources.String() != before.Spec.Containers[0].Resources.String() {
				t.Errorf("validation has changed the pod")
			}
		})
	}
}

// KEP-5419: so may the processor time and memory of the pod as a whole.
func TestValidatePodResizeOfThePod(t *testing.T) {
	list := func(cpu, memory string) v1.ResourceList {
		return v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse(memory)}
	}
	for _, test := range []struct {
		name   string
		change func(*v1.ResourceRequirements)
		want   []string
	}{
		{"more", func(r *v1.ResourceRequirements) { r.Requests = list("2", "2Gi") }, nil},
		{"higher limit", func(r *v1.ResourceRequirements) { r.Limits = list("8", "8Gi") }, nil},
		{"above the limit", func(r *v1.ResourceRequirements) { r.Requests = list("5", "1Gi") }, []string{`spec.resources.requests: Invalid value: "5": must be less than or equal to cpu limit of 4`}},
		{"a request gone", func(r *v1.ResourceRequirements) { delete(r.Requests, v1.ResourceMemory) }, []string{"spec.resources.requests: Forbidden: pod-level resource requests cannot be removed"}},
		{"a limit gone", func(r *v1.ResourceRequirements) { delete(r.Limits, v1.ResourceCPU) }, []string{"spec.resources.limits: Forbidden: pod-level resource limits cannot be removed"}},
		{"huge pages", func(r *v1.ResourceRequirements) {
			r.Requests["hugepages-2Mi"], r.Limits["hugepages-2Mi"] = resource.MustParse("2Mi"), resource.MustParse("2Mi")
		}, []string{"spec: Forbidden: only cpu and memory resources are mutable at pod-level"}},
		{"another class", func(r *v1.ResourceRequirements) { r.Requests = list("4", "4Gi") }, []string{"spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			old := &v1.Pod{Spec: v1.PodSpec{
				Containers: []v1.Container{{Name: "a", Image: "a"}}, Resources: &v1.ResourceRequirements{Requests: list("1", "1Gi"), Limits: list("4", "4Gi")},
			}}
			old.Name, old.Namespace = "p", "default"
			SetDefaultsPod(old)
			old.Status.QOSClass = ComputePodQOS(&old.Spec)
			pod := old.DeepCopy()
			test.change(pod.Spec.Resources)
			ruletest.Expect(t, ValidatePodResize(pod, old), test.want...)
			// Who had nothing for the pod as a whole may get it, and who has it keeps it.
			bare := old.DeepCopy()
			bare.Spec.Resources = nil
			ruletest.Expect(t, ValidatePodResize(bare, old), "spec.resources: Forbidden: pod-level resources cannot be removed", "spec: Invalid value … Pod QOS Class may not change")
		})
	}
}
