package volume

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestHugePageSize(t *testing.T) {
	for _, c := range []struct {
		medium v1.StorageMedium
		names  []v1.ResourceName
		size   int64
		err    string
	}{
		{"HugePages", []v1.ResourceName{"cpu", "hugepages-2Mi"}, 2 << 20, ""},
		{"HugePages-2Mi", []v1.ResourceName{"hugepages-2Mi", "hugepages-1Gi"}, 2 << 20, ""},
		{"HugePages-1Gi", []v1.ResourceName{"hugepages-2Mi", "hugepages-1Gi"}, 1 << 30, ""},
		{"HugePages", []v1.ResourceName{"hugepages-2Mi", "hugepages-1Gi"}, 0, "medium: HugePages can't be used if container requests multiple huge page sizes"},
		{"HugePages", []v1.ResourceName{"cpu"}, 0, "medium HugePages: hugePages storage requested, but there is no resource request for huge pages"},
		{"HugePages-1Gi", []v1.ResourceName{"hugepages-2Mi"}, 0, "medium HugePages-1Gi: hugePages storage requested, but there is no resource request for huge pages"},
		{"HugePages-many", []v1.ResourceName{"hugepages-2Mi"}, 0, "unknown storage medium"},
		{"HugePagesx", nil, 0, "unknown storage medium"},
	} {
		pod := &v1.Pod{}
		for i, name := range c.names { // by turns in an init container, and in another one
			container := v1.Container{Resources: v1.ResourceRequirements{Requests: v1.ResourceList{name: resource.MustParse("4Mi")}}}
			if i%2 == 0 {
				pod.Spec.InitContainers = append(pod.Spec.InitContainers, container)
			} else {
				pod.Spec.Containers = append(pod.Spec.Containers, container)
			}
		}
		size, err := hugePageSize(c.medium, pod)
		if size != c.size || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s of %v: %d, %v; want %d, %s", c.medium, c.names, size, err, c.size, c.err)
		}
	}
	whole := &v1.Pod{Spec: v1.PodSpec{Resources: &v1.ResourceRequirements{Requests: v1.ResourceList{"hugepages-2Mi": resource.MustParse("4Mi")}}}}
	if size, err := hugePageSize("HugePages", whole); size != 2<<20 || err != nil {
		t.Errorf("the pod as a whole asks: %d, %v", size, err)
	}
}
