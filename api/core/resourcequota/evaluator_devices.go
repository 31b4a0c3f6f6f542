package resourcequota

import (
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
)

var resourceClaims = resourcev1.Resource("resourceclaims")

// deviceEvaluator counts ResourceClaims, and the devices that they ask for of each class:
// gpu.deviceclass.resource.k8s.io/devices. Left out: the names under which a pod's extended resources and such devices are
// summed up (requests.deviceclass.resource.kubernetes.io/gpu).
var deviceEvaluator = &Evaluator{
	Resource: resourceClaims,
	Tracks: func(name v1.ResourceName) bool {
		return name == ObjectCountName(resourceClaims) || strings.HasSuffix(string(name), v1.ResourceClaimsPerClass)
	},
	Usage: func(obj runtime.Object, _ time.Time) v1.ResourceList {
		claim, ok := obj.(*resourcev1.ResourceClaim)
		if !ok {
			return nil
		}
		usage := v1.ResourceList{ObjectCountName(resourceClaims): one()}
		for _, request := range claim.Spec.Devices.Requests {
			usage = Add(usage, requestedDevices(request))
		}
		return usage
	},
}

// requestedDevices is the most that a request may be given of each class: of alternatives only one comes true, and it is not known which.
func requestedDevices(request resourcev1.DeviceRequest) v1.ResourceList {
	most := v1.ResourceList{}
	atMost := func(class string, mode resourcev1.DeviceAllocationMode, count int64) {
		switch mode {
		case resourcev1.DeviceAllocationModeExactCount:
		case resourcev1.DeviceAllocationModeAll:
			count = resourcev1.AllocationResultsMaxSize
		default:
			count = 0 // a mode of a later version, which nobody here can allocate
		}
		name := v1.ResourceName(class + v1.ResourceClaimsPerClass)
		if before := most[name]; before.CmpInt64(count) < 0 {
			most[name] = *resource.NewQuantity(count, resource.DecimalSI)
		}
	}
	if exactly := request.Exactly; exactly != nil {
		atMost(exactly.DeviceClassName, exactly.AllocationMode, exactly.Count)
	}
	for _, alternative := range request.FirstAvailable {
		atMost(alternative.DeviceClassName, alternative.AllocationMode, alternative.Count)
	}
	return most
}
