// Package resource_test checks the kinds of dynamic resource allocation.
package resource_test

import (
	"strings"
	"testing"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/resource/device"
	"hyperkube/api/resource/resourceclaim"
	"hyperkube/api/resource/resourceslice"
	"hyperkube/api/rule/ruletest"
)

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
		{"twice", func(c *object) { c.Spec.Devices.Requests[1].Name = "one" }, []string{"spec.devices.requests[1]: Duplicate value: \"one\""}},
		{"no class", func(c *object) { exactly(c).DeviceClassName = "" }, []string{"spec.devices.requests[0].exactly.deviceClassName: Required value"}},
		{"counts", func(c *object) { exactly(c).Count = -1; exactly(c).AllocationMode = "ExactCount" }, []string{"spec.devices.requests[0].exactly.count: Invalid value: -1: must be greater than zero"}},
		{"all, and a count", func(c *object) { exactly(c).AllocationMode = "All" }, []string{"spec.devices.requests[0].exactly.count: Invalid value: 1: must not be specified when allocationMode is 'All'"}},
		{"mode", func(c *object) { exactly(c).AllocationMode = "x" }, []string{"spec.devices.requests[0].exactly.allocationMode: Unsupported value: \"x\": supported values: \"All\", \"ExactCount\""}},
		{"selector", func(c *object) { exactly(c).Selectors = []resourcev1.DeviceSelector{{}} }, []string{"spec.devices.requests[0].exactly.selectors[0].cel: Required value"}},
		{"constraint", func(c *object) {
			c.Spec.Devices.Constraints = []resourcev1.DeviceConstraint{{Requests: []string{"x"}}, {MatchAttribute: ptr.To(resourcev1.FullyQualifiedName("numa"))}}
		}, []string{"spec.devices.constraints[0].requests[0]: Invalid value: \"x\": must be the name of a request", "spec.devices.constraints[0].matchAttribute: Required value",
			"spec.devices.constraints[1].matchAttribute: Invalid value: \"numa\": must include a domain"}},
		{"config", func(c *object) {
			c.Spec.Devices.Config = []resourcev1.DeviceClaimConfiguration{{}, {DeviceConfiguration: resourcev1.DeviceConfiguration{Opaque: &resourcev1.OpaqueDeviceConfiguration{Driver: "a_", Parameters: runtime.RawExtension{Raw: []byte("5")}}}}}
		}, []string{"spec.devices.config[0].opaque: Required value", "spec.devices.config[1].opaque.driver: Invalid value", "spec.devices.config[1].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object"}},
		{"tolerations", func(c *object) {
			exactly(c).Tolerations = []resourcev1.DeviceToleration{{Operator: "Exists", Value: "a"}, {Operator: "Equal"}, {Key: "a", Operator: "x", Effect: "y"}}
		}, []string{"spec.devices.requests[0].exactly.tolerations[0].value: Invalid value: \"a\": must be empty for operator `Exists`", "spec.devices.requests[0].exactly.tolerations[1].operator: Invalid value",
			"spec.devices.requests[0].exactly.tolerations[2].operator: Unsupported value", "spec.devices.requests[0].exactly.tolerations[2].effect: Unsupported value"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := claim()
			test.change(c)
			ruletest.Expect(t, resourceclaim.Validate(c), test.want...)
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
	again := c.DeepCopy()
	again.Status.Allocation.Devices.Results[0].Request = "other"
	again.Status.ReservedFor = append(again.Status.ReservedFor, user)
	ruletest.Expect(t, resourceclaim.ValidateStatusUpdate(again, c), "status.allocation.devices.results[0].request: Invalid value", "status.allocation: Invalid value … field is immutable", "status.reservedFor[1].uid: Duplicate value")
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
		{"no value", func(s *object) { attribute(s, resourcev1.DeviceAttribute{}) }, []string{"spec.devices[0].attributes[a]: Required value: exactly one value must be specified"}},
		{"two values", func(s *object) {
			attribute(s, resourcev1.DeviceAttribute{IntValue: ptr.To[int64](1), BoolValue: ptr.To(true)})
		}, []string{"spec.devices[0].attributes[a]: Invalid value … exactly one value must be specified"}},
		{"version", func(s *object) { attribute(s, resourcev1.DeviceAttribute{VersionValue: ptr.To("1.02.3")}) },
			[]string{"spec.devices[0].attributes[a].version: Invalid value: \"1.02.3\": must be a string compatible with semver.org spec 2.0.0"}},
		{"long", func(s *object) {
			attribute(s, resourcev1.DeviceAttribute{StringValue: ptr.To(strings.Repeat("a", 65))})
		}, []string{"spec.devices[0].attributes[a].string: Too long"}},
		{"taint", func(s *object) { s.Spec.Devices[0].Taints = []resourcev1.DeviceTaint{{Key: "a", Effect: "x"}} }, []string{"spec.devices[0].taints[0].effect: Unsupported value"}},
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

func TestQualifiedName(t *testing.T) {
	for name, want := range map[string][]string{
		"memory": nil, "example.com/memory": nil, "": {"x: Required value: name required"}, "/a": {"x: Invalid value: \"\": the domain must not be empty"},
		"a/": {"x: Invalid value: \"\": the name must not be empty"}, "a-b": {"x: Invalid value: \"a-b\""}, strings.Repeat("a", 33): {"x: Too long"},
	} {
		ruletest.Expect(t, device.ValidateQualifiedName(name, field.NewPath("x")), want...)
	}
}
