package resourcequota

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Alternatives count by the greatest of a class, requests add up, All is the most that a claim can be given.
func TestDevicesOfAClaim(t *testing.T) {
	exactly := func(class string, mode resourcev1.DeviceAllocationMode, count int64) resourcev1.DeviceRequest {
		return resourcev1.DeviceRequest{Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: class, AllocationMode: mode, Count: count}}
	}
	alternative := func(class string, count int64) resourcev1.DeviceSubRequest {
		return resourcev1.DeviceSubRequest{DeviceClassName: class, AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: count}
	}
	claim := &resourcev1.ResourceClaim{}
	claim.Spec.Devices.Requests = []resourcev1.DeviceRequest{
		exactly("gpu", resourcev1.DeviceAllocationModeExactCount, 2), exactly("nic", resourcev1.DeviceAllocationModeAll, 0), exactly("new", "Later", 7),
		{FirstAvailable: []resourcev1.DeviceSubRequest{alternative("gpu", 1), alternative("gpu", 3), alternative("old", 4)}},
	}
	evaluator := EvaluatorFor(resourcev1.Resource("resourceclaims"))
	usage := Increase(evaluator.Usage(claim, time.Time{}), nil)
	want := v1.ResourceList{"count/resourceclaims.resource.k8s.io": one()}
	for class, count := range map[string]int64{"gpu": 5, "nic": 32, "old": 4} {
		want[v1.ResourceName(class+".deviceclass.resource.k8s.io/devices")] = *resource.NewQuantity(count, resource.DecimalSI)
	}
	if !Equal(usage, want) {
		t.Errorf("used %v, want %v", usage, want)
	}
	names := []v1.ResourceName{"a.deviceclass.resource.k8s.io/devices", "count/resourceclaims.resource.k8s.io", "count/pods", "requests.cpu"}
	if got := evaluator.MatchingResources(names); len(got) != 2 {
		t.Errorf("measures %v", got)
	}
}
