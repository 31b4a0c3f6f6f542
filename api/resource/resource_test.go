// Package resource_test checks the kinds of dynamic resource allocation.
package resource_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/resource/device"
	"hyperkube/api/resource/resourceclaim"
	"hyperkube/api/resource/resourceslice"
	"hyperkube/api/rule/ruletest"
)

// anything compiles: what CEL says of selectors is tested where they are compiled.
func anything(string, bool, *field.Path) field.ErrorList { return nil }

func claim() *resourcev1.ResourceClaim {
	c := &resourcev1.ResourceClaim{Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{
		{Name: "one", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu"}},
		{Name: "any", FirstAvailable: []resourcev1.DeviceSubRequest{{Name: "large", DeviceClassName: "gpu"}}},
	}}}}
	resourceclaim.SetDefaults(&c.Spec)
	return c
}

func TestClaim(t *testing.T) {
	type object = resourcev1.ResourceClaim
	exactly := func(c *object) *resourcev1.ExactDeviceRequest { return c.Spec.Devices.Requests[0].Exactly }
	for _, test := range []struct {
		name   string
		change func(*object)
		want   []string
	}{
		{"good", func(c *object) {
			c.Spec.Devices.Constraints = []resourcev1.DeviceConstraint{{Requests: []string{"one", "any/large"}, MatchAttribute: ptr.To(resourcev1.FullyQualifiedName("example.com/numa"))}}
		}, nil},
		{"neither", func(c *object) { c.Spec.Devices.Requests[0].Exactly = nil }, []string{"spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"}},
		{"both", func(c *object) {
			c.Spec.Devices.Requests[0].FirstAvailable = c.Spec.Devices.Requests[1].FirstAvailable
		}, []string{"spec.devices.requests[0]: Invalid value … multiple fields are set"}},
		{"twice", func(c *object) { c.Spec.Devices.Requests[1].Name = "one" }, []string{"spec.devices.requests[1]: Duplicate value: {\"name\":\"one\""}},
		{"no class", func(c *object) { exactly(c).DeviceClassName = "" }, []string{"spec.devices.requests[0].exactly.deviceClassName: Required value"}},
		{"counts", func(c *object) { exactly(c).Count = -1; exactly(c).AllocationMode = "ExactCount" }, []string{"spec.devices.requests[0].exactly.count: Invalid value: -1: must be greater than zero"}},
		{"all, and a count", func(c *object) { exactly(c).AllocationMode = "All" }, []string{"spec.devices.requests[0].exactly.count: Invalid value: 1: must not be specified when allocationMode is 'All'"}},
		{"mode", func(c *object) { exactly(c).AllocationMode = "x" }, []string{"spec.devices.requests[0].exactly.allocationMode: Unsupported value: \"x\": supported values: \"All\", \"ExactCount\""}},
		{"selector", func(c *object) { exactly(c).Selectors = []resourcev1.DeviceSelector{{}} }, []string{"spec.devices.requests[0].exactly.selectors[0].cel: Required value"}},
		{"constraint", func(c *object) {
			c.Spec.Devices.Constraints = []resourcev1.DeviceConstraint{{Requests: []string{"x"}}, {MatchAttribute: ptr.To(resourcev1.FullyQualifiedName("numa"))}}
		}, []string{"spec.devices.constraints[0].requests[0]: Invalid value: \"x\": must be the name of a request", "spec.devices.constraints[0]: Required value: exactly one of",
			"spec.devices.constraints[1].matchAttribute: Invalid value: \"numa\": a fully qualified name must be a domain and a name separated by a slash"}},
		{"config", func(c *object) {
			c.Spec.Devices.Config = []resourcev1.DeviceClaimConfiguration{{}, {DeviceConfiguration: resourcev1.DeviceConfiguration{Opaque: &resourcev1.OpaqueDeviceConfiguration{Driver: "a_", Parameters: runtime.RawExtension{Raw: []byte("5")}}}}}
		}, []string{"spec.devices.config[0].opaque: Required value", "spec.devices.config[1].opaque.driver: Invalid value", "spec.devices.config[1].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object"}},
		{"tolerations", func(c *object) {
			exactly(c).Tolerations = []resourcev1.DeviceToleration{{Operator: "Exists", Value: "a"}, {Operator: "Equal"}, {Key: "a", Operator: "x", Effect: "y"}}
		}, []string{"spec.devices.requests[0].exactly.tolerations[0].value: Invalid value: \"a\": must be empty for operator `Exists`",
			"spec.devices.requests[0].exactly.tolerations[2].operator: Unsupported value", "spec.devices.requests[0].exactly.tolerations[2].effect: Unsupported value"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := claim()
			test.change(c)
			ruletest.Expect(t, resourceclaim.Validate(c, anything), test.want...)
		})
	}
	other := claim()
	other.Spec.Devices.Requests[0].Name = "x"
	ruletest.Expect(t, resourceclaim.ValidateUpdate(other, claim()), "spec: Invalid value … field is immutable")
}

// An allocation is made once; what is not allocated is reserved for nobody.
func TestClaimStatus(t *testing.T) {
	user := resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: "p", UID: "u"}
	old, c := claim(), claim()
	c.Status.ReservedFor = []resourcev1.ResourceClaimConsumerReference{user}
	ruletest.Expect(t, resourceclaim.ValidateStatusUpdate(c, old), "status.reservedFor: Forbidden: may not be specified when `allocated` is not set")
	c.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{{Request: "one", Driver: "d", Pool: "p", Device: "x"}}}}
	ruletest.Expect(t, resourceclaim.ValidateStatusUpdate(c, old))
	tolerant := c.DeepCopy()
	tolerant.Status.Allocation.Devices.Results[0].Tolerations = []resourcev1.DeviceToleration{{Operator: "Exists", Value: "a"}, {Key: "b"}}
	resourceclaim.SetDefaultsStatus(&tolerant.Status)
	ruletest.Expect(t, resourceclaim.ValidateStatusUpdate(tolerant, old),
		"status.allocation.devices.results[0].tolerations[0].value: Invalid value: \"a\": must be empty for operator `Exists`")
	again := c.DeepCopy()
	again.Status.Allocation.Devices.Results[0].Request = "other"
	again.Status.ReservedFor = append(again.Status.ReservedFor, user)
	ruletest.Expect(t, resourceclaim.ValidateStatusUpdate(again, c), "status.allocation: Invalid value … field cannot be modified once set", "status.reservedFor[1]: Duplicate value")
}

// A template says labels and annotations of what is made from it, and nothing else.
func TestTemplateMetadata(t *testing.T) {
	tpl := &resourcev1.ResourceClaimTemplate{Spec: resourcev1.ResourceClaimTemplateSpec{Spec: claim().Spec}}
	tpl.Spec.Labels, tpl.Spec.Annotations = map[string]string{"a": "b"}, map[string]string{"a": "b"}
	ruletest.Expect(t, resourceclaim.ValidateTemplate(tpl, anything))
	tpl.Spec.Name, tpl.Spec.UID, tpl.Spec.Finalizers = "a", "u", []string{}
	ruletest.Expect(t, resourceclaim.ValidateTemplate(tpl, anything), "spec.metadata.name: Forbidden: cannot be set", "spec.metadata.uID: Forbidden: cannot be set",
		"spec.metadata.finalizers: Forbidden: cannot be set")
}

func TestSlice(t *testing.T) {
	type object = resourcev1.ResourceSlice
	good := func() *object {
		return &object{Spec: resourcev1.ResourceSliceSpec{Driver: "example.com", NodeName: ptr.To("n"), Pool: resourcev1.ResourcePool{Name: "a/b", ResourceSliceCount: 1},
			Devices: []resourcev1.Device{{Name: "d", Attributes: map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{"version": {VersionValue: ptr.To("1.2.3-rc.1")}}}}}}
	}
	attribute := func(s *object, a resourcev1.DeviceAttribute) {
		s.Spec.Devices[0].Attributes = map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{"a": a}
	}
	for _, test := range []struct {
		name   string
		change func(*object)
		want   []string
	}{
		{"good", func(s *object) {}, nil},
		{"nowhere", func(s *object) { s.Spec.NodeName = nil }, []string{"spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"}},
		{"twice", func(s *object) { s.Spec.AllNodes = ptr.To(true) }, []string{"spec: Invalid value … multiple fields are set"}},
		{"pool", func(s *object) { s.Spec.Pool = resourcev1.ResourcePool{Name: "a//b", Generation: -1} },
			[]string{"spec.pool.name: Invalid value", "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero", "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero"}},
		{"devices", func(s *object) { s.Spec.Devices = append(s.Spec.Devices, s.Spec.Devices[0]) }, []string{"spec.devices[1]: Duplicate value: \"d\""}},
		{"no value", func(s *object) { attribute(s, resourcev1.DeviceAttribute{}) }, []string{"spec.devices[0].attributes[a]: Invalid value … must specify one of: `int`, `bool`, `string`, `version`"}},
		{"two values", func(s *object) {
			attribute(s, resourcev1.DeviceAttribute{IntValue: ptr.To[int64](1), BoolValue: ptr.To(true)})
		}, []string{"spec.devices[0].attributes[a]: Invalid value: \"{int, bool}\": must specify exactly one of"}},
		{"version", func(s *object) { attribute(s, resourcev1.DeviceAttribute{VersionValue: ptr.To("1.02.3")}) },
			[]string{"spec.devices[0].attributes[a].version: Invalid value: \"1.02.3\": must be a string compatible with semver.org spec 2.0.0"}},
		{"long", func(s *object) {
			attribute(s, resourcev1.DeviceAttribute{StringValue: ptr.To(strings.Repeat("a", 65))})
		}, []string{"spec.devices[0].attributes[a].string: Too long"}},
		{"taint", func(s *object) { s.Spec.Devices[0].Taints = []resourcev1.DeviceTaint{{Key: "a", Effect: "x"}} }, []string{"spec.devices[0].taints[0].effect: Unsupported value"}},
		{"too many with taints", func(s *object) {
			s.Spec.Devices[0].Taints = []resourcev1.DeviceTaint{{Key: "a", Effect: "NoExecute"}}
			for i := range 64 {
				s.Spec.Devices = append(s.Spec.Devices, resourcev1.Device{Name: fmt.Sprint("d", i)})
			}
		}, []string{"spec.devices: Too many: 65: must have at most 64 items"}},
		{"counters and devices", func(s *object) {
			s.Spec.SharedCounters = []resourcev1.CounterSet{{Name: "a_", Counters: map[string]resourcev1.Counter{"m": {}}}, {Name: "b"}}
		}, []string{"spec: Invalid value: \"\": only one of `sharedCounters` or `devices` is allowed", "spec.sharedCounters[0].name: Invalid value: \"a_\"", "spec.sharedCounters[1].counters: Required value"}},
		{"a device's place", func(s *object) { s.Spec.Devices[0].NodeName = ptr.To("n") },
			[]string{"spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if"}},
		{"each its place", func(s *object) {
			s.Spec.NodeName, s.Spec.PerDeviceNodeSelection = nil, ptr.To(true)
			s.Spec.Devices = append(s.Spec.Devices, resourcev1.Device{Name: "e", NodeName: ptr.To("n"), AllNodes: ptr.To(true)}, resourcev1.Device{Name: "f", AllNodes: ptr.To(false)})
		}, []string{"spec.devices[0]: Required value: exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required", "spec.devices[1]: Invalid value: \"{`nodeName`, `allNodes`}\"",
			"spec.devices[2].allNodes: Invalid value: false", "spec.devices[2]: Required value"}},
		{"binding", func(s *object) {
			s.Spec.Devices[0].BindingConditions, s.Spec.Devices[0].BindingFailureConditions = []string{"a", "a"}, []string{"a"}
			s.Spec.Devices = append(s.Spec.Devices, resourcev1.Device{Name: "e", BindingConditions: []string{"a"}})
		}, []string{"spec.devices[0].bindingConditions[1]: Duplicate value", "spec.devices[0].bindingFailureConditions[0]: Invalid value: \"a\": bindingFailureConditions must not overlap with bindingConditions",
			"spec.devices[1].bindingFailureConditions: Invalid value … bindingFailureConditions are required to use bindingConditions"}},
		{"feature that is off", func(s *object) { s.Spec.PartitionTypeAttribute = ptr.To(resourcev1.FullyQualifiedName("a/b")) },
			[]string{"spec.partitionTypeAttribute: Forbidden"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := good()
			test.change(s)
			ruletest.Expect(t, resourceslice.Validate(s), test.want...)
		})
	}
	other := good()
	other.Spec.Driver = "other.example.com"
	ruletest.Expect(t, resourceslice.ValidateUpdate(other, good()), "spec.driver: Invalid value … field is immutable")
}

// How much of a device that several claims share each may take (KEP-5075).
func TestCapacity(t *testing.T) {
	q := func(text string) *resource.Quantity { return ptr.To(resource.MustParse(text)) }
	for _, test := range []struct {
		name   string
		policy resourcev1.CapacityRequestPolicy
		want   []string
	}{
		{"values", resourcev1.CapacityRequestPolicy{Default: q("1"), ValidValues: []resource.Quantity{*q("1"), *q("2")}}, nil},
		{"no default", resourcev1.CapacityRequestPolicy{ValidValues: []resource.Quantity{*q("1")}}, []string{"default: Required value: required when validValues is defined"}},
		{"both", resourcev1.CapacityRequestPolicy{Default: q("1"), ValidValues: []resource.Quantity{*q("1")}, ValidRange: &resourcev1.CapacityRequestPolicyRange{}}, []string{": Forbidden: exactly one policy can be specified"}},
		{"order", resourcev1.CapacityRequestPolicy{Default: q("3"), ValidValues: []resource.Quantity{*q("2"), *q("1"), *q("11"), *q("1")}},
			[]string{"validValues[1]: Invalid value: \"1\": values must be sorted in ascending order", "validValues[2]: Invalid value: \"11\": option is larger than capacity value: 10",
				"validValues[3]: Invalid value: \"1\": values must be sorted", "validValues[3]: Duplicate value: \"1\"", "validValues: Invalid value: \"3\": default value is not valid according to the requestPolicy"}},
		{"range", resourcev1.CapacityRequestPolicy{Default: q("4"), ValidRange: &resourcev1.CapacityRequestPolicyRange{Min: q("2"), Max: q("8"), Step: q("2")}}, nil},
		{"no min", resourcev1.CapacityRequestPolicy{Default: q("4"), ValidRange: &resourcev1.CapacityRequestPolicyRange{}}, []string{"validRange.min: Required value: required when validRange is defined"}},
		{"steps", resourcev1.CapacityRequestPolicy{Default: q("3"), ValidRange: &resourcev1.CapacityRequestPolicyRange{Min: q("2"), Max: q("12"), Step: q("9")}},
			[]string{"validRange.max: Invalid value: \"12\": max is larger than capacity value: 10", "validRange.step: Invalid value: \"9\": one step 11 is larger than capacity value: 10",
				"validRange.step: Invalid value: \"3\": value is not a multiple of a given step (9) from (2)", "validRange.step: Invalid value: \"12\": value is not"}},
		{"no step", resourcev1.CapacityRequestPolicy{Default: q("3"), ValidRange: &resourcev1.CapacityRequestPolicyRange{Min: q("2"), Step: q("0")}},
			[]string{"validRange.step: Invalid value: \"0\": must be greater than zero"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &resourcev1.ResourceSlice{Spec: resourcev1.ResourceSliceSpec{Driver: "d", AllNodes: ptr.To(true), Pool: resourcev1.ResourcePool{Name: "a", ResourceSliceCount: 1},
				Devices: []resourcev1.Device{{Name: "d", AllowMultipleAllocations: ptr.To(true), Capacity: map[resourcev1.QualifiedName]resourcev1.DeviceCapacity{"m": {Value: *q("10"), RequestPolicy: &test.policy}}}}}}
			const path = "spec.devices[0].capacity[m].requestPolicy"
			for i := range test.want {
				if test.want[i][0] != ':' {
					test.want[i] = "." + test.want[i]
				}
				test.want[i] = path + test.want[i]
			}
			ruletest.Expect(t, resourceslice.Validate(s), test.want...)
			s.Spec.Devices[0].AllowMultipleAllocations = nil
			ruletest.Expect(t, resourceslice.Validate(s), path+": Forbidden: allowMultipleAllocations must be true")
		})
	}
}

// A driver speaks of what is allocated; what it said of a device goes with the allocation.
func TestDeviceStatus(t *testing.T) {
	old := claim()
	old.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{
		{Request: "one", Driver: "d", Pool: "p", Device: "x"}, {Request: "one", Driver: "d", Pool: "p", Device: "x", ShareID: ptr.To(types.UID("s"))},
	}}}
	c := old.DeepCopy()
	c.Status.Devices = []resourcev1.AllocatedDeviceStatus{
		{Driver: "d", Pool: "p", Device: "x", NetworkData: &resourcev1.NetworkDeviceData{IPs: []string{"10.0.0.1/24", "10.0.0.1"}}},
		{Driver: "d", Pool: "p", Device: "y", Data: &runtime.RawExtension{Raw: []byte("5")}},
		{Driver: "d", Pool: "p", Device: "x", ShareID: ptr.To("s")},
	}
	ruletest.Expect(t, resourceclaim.ValidateStatusUpdate(c, old), "status.devices[0].networkData.ips[1]: Invalid value: \"10.0.0.1\"",
		"status.devices[1]: Invalid value: {\"Driver\":\"d\",\"Pool\":\"p\",\"Device\":\"y\",\"ShareID\":\"\"}: must be an allocated device in the claim", "status.devices[1].data: Invalid value: \"<value omitted>\": must be a valid JSON object",
		"status.devices[2].shareID: Invalid value: \"s\"")
	freed := c.DeepCopy()
	freed.Status.Allocation.Devices.Results = freed.Status.Allocation.Devices.Results[:1]
	resourceclaim.DropDeallocated(freed, c)
	if n := len(freed.Status.Devices); n != 2 {
		t.Errorf("%d devices are left, want those of x without a share and of y, which never was allocated", n)
	}
	deleted := old.DeepCopy()
	deleted.DeletionTimestamp = &metav1.Time{}
	deleted.Status.ReservedFor = []resourcev1.ResourceClaimConsumerReference{{Resource: "pods", Name: "p", UID: "u"}}
	ruletest.Expect(t, resourceclaim.ValidateStatusUpdate(deleted, old), "status.reservedFor: Forbidden: new entries may not be added while")
}

func TestClass(t *testing.T) {
	var stored []bool
	compile := func(expression string, was bool, at *field.Path) field.ErrorList {
		stored = append(stored, was)
		return nil
	}
	c := &resourcev1.DeviceClass{Spec: resourcev1.DeviceClassSpec{Selectors: []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: "a"}}}}}
	ruletest.Expect(t, device.ValidateClass(c, compile))
	other := c.DeepCopy()
	other.Spec.ExtendedResourceName = ptr.To("gpu")
	ruletest.Expect(t, device.ValidateClassUpdate(other, c, compile), "spec.extendedResourceName: Invalid value: \"gpu\": a name must be a domain-prefixed path")
	other.Spec = resourcev1.DeviceClassSpec{Selectors: []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: "b"}}, {CEL: &resourcev1.CELDeviceSelector{Expression: strings.Repeat("a", 10*1024+1)}}}}
	ruletest.Expect(t, device.ValidateClassUpdate(other, c, compile), "spec.selectors[1].cel.expression: Too long: may not be more than 10240 bytes")
	if !slices.Equal(stored, []bool{false, true, false}) {
		t.Errorf("selectors that stay are stored ones: %v", stored)
	}
}

func TestTaintRule(t *testing.T) {
	r := &resourcev1.DeviceTaintRule{Spec: resourcev1.DeviceTaintRuleSpec{Taint: resourcev1.DeviceTaint{Key: "a", Effect: "NoExecute"}}}
	ruletest.Expect(t, device.ValidateTaintRule(r, nil))
	early, late := metav1.Unix(1000, 5), metav1.Unix(2000, 0)
	device.StampTaint(&r.Spec.Taint, early)
	if r.Spec.Taint.TimeAdded.Nanosecond() != 0 || r.Spec.Taint.TimeAdded.Unix() != 1000 {
		t.Errorf("stamped %v", r.Spec.Taint.TimeAdded)
	}
	other := r.DeepCopy()
	other.Spec.Taint.Value = "b"
	device.RestampTaint(&other.Spec.Taint, &r.Spec.Taint, late)
	if other.Spec.Taint.TimeAdded.Unix() != 1000 {
		t.Error("a taint with the effect it had keeps its time")
	}
	other.Spec.Taint.Effect = "None"
	device.RestampTaint(&other.Spec.Taint, &r.Spec.Taint, late)
	if other.Spec.Taint.TimeAdded.Unix() != 2000 {
		t.Error("a new effect has a new time")
	}
	other.Spec = resourcev1.DeviceTaintRuleSpec{DeviceSelector: &resourcev1.DeviceTaintSelector{Driver: ptr.To("a_"), Pool: ptr.To(""), Device: ptr.To("A")}, Taint: resourcev1.DeviceTaint{Value: "a b"}}
	ruletest.Expect(t, device.ValidateTaintRule(other, r), "spec.deviceSelector.driver: Invalid value", "spec.deviceSelector.pool: Required value", "spec.deviceSelector.device: Invalid value",
		"spec.taint.key: Invalid value", "spec.taint.key: Invalid value", "spec.taint.value: Invalid value", "spec.taint.effect: Required value")
	r.Status.Conditions = make([]metav1.Condition, 9)
	for i := range r.Status.Conditions {
		r.Status.Conditions[i] = metav1.Condition{Type: fmt.Sprint("A", i), Status: "True", Reason: "A", LastTransitionTime: late}
	}
	ruletest.Expect(t, device.ValidateTaintRuleStatus(r, r), "status.conditions: Too many: 9: must have at most 8 items")
}

func TestQualifiedName(t *testing.T) {
	for name, want := range map[string][]string{
		"memory": nil, "example.com/memory": nil, "": {"x: Invalid value: \"\": a valid C identifier"}, "/a": {"x: Invalid value: \"\": the domain must not be empty"},
		"a/": {"x: Invalid value: \"\": the name must not be empty"}, "a-b": {"x: Invalid value: \"a-b\""}, strings.Repeat("a", 33): {"x: Too long"},
	} {
		ruletest.Expect(t, device.ValidateQualifiedName(name, field.NewPath("x")), want...)
	}
}
