package resource

import (
	"fmt"
	"testing"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	testclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule/ruletest"
	"hyperkube/apiserver/registry"
)

func claim(change func(*resourcev1.DeviceClaim)) *resourcev1.ResourceClaim {
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "default"}, Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{
		{Name: "r", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "c", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 1}}}}}}
	change(&c.Spec.Devices)
	return c
}

func slice(change func(*resourcev1.ResourceSliceSpec)) *resourcev1.ResourceSlice {
	s := &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: resourcev1.ResourceSliceSpec{
		Driver: "d.example.com", NodeName: ptr.To("n"), Pool: resourcev1.ResourcePool{Name: "n", ResourceSliceCount: 1}, Devices: []resourcev1.Device{{Name: "d"}}}}
	change(&s.Spec)
	return s
}

// KEP-5073: each fault is told once, in the words of the rule that the type declares.
func TestDeclaredRules(t *testing.T) {
	rules := map[string]registry.Strategy{}
	for _, r := range Resources(&registry.Env{Clock: testclock.NewFakeClock(metav1.Now().Time)}) {
		rules[r.Name] = r.Strategy
	}
	for name, test := range map[string]struct {
		found field.ErrorList
		want  []string
	}{
		"good claim": {rules["resourceclaims"].Validate(t.Context(), claim(func(*resourcev1.DeviceClaim) {})), nil},
		"requests": {rules["resourceclaims"].Validate(t.Context(), claim(func(d *resourcev1.DeviceClaim) {
			for i := range 32 {
				r := *d.Requests[0].DeepCopy()
				r.Name = fmt.Sprintf("r%d", i)
				d.Requests = append(d.Requests, r)
			}
		})), []string{"spec.devices.requests: Too many: 33: must have at most 32 items"}},
		"driver": {rules["resourceclaims"].Validate(t.Context(), claim(func(d *resourcev1.DeviceClaim) {
			d.Config = []resourcev1.DeviceClaimConfiguration{{DeviceConfiguration: resourcev1.DeviceConfiguration{Opaque: &resourcev1.OpaqueDeviceConfiguration{Parameters: runtime.RawExtension{Raw: []byte(`{}`)}}}}}
		})), []string{"spec.devices.config[0].opaque.driver: Required value"}},
		"mode": {rules["resourceclaims"].Validate(t.Context(), claim(func(d *resourcev1.DeviceClaim) {
			d.Requests[0].Exactly.AllocationMode = "Some"
		})), []string{`spec.devices.requests[0].exactly.allocationMode: Unsupported value: "Some": supported values: "All", "ExactCount"`}},
		"toleration": {rules["resourceclaims"].Validate(t.Context(), claim(func(d *resourcev1.DeviceClaim) {
			d.Requests[0].Exactly.Tolerations = []resourcev1.DeviceToleration{{Key: "a b", Operator: "Is", Effect: "Bad"}}
		})), []string{
			`spec.devices.requests[0].exactly.tolerations[0].key: Invalid value: "a b"`,
			`spec.devices.requests[0].exactly.tolerations[0].operator: Unsupported value: "Is": supported values: "Equal", "Exists"`,
			`spec.devices.requests[0].exactly.tolerations[0].effect: Unsupported value: "Bad": supported values: "NoExecute", "NoSchedule", "None"`,
		}},
		"other claim": {rules["resourceclaims"].ValidateUpdate(t.Context(), claim(func(d *resourcev1.DeviceClaim) { d.Requests[0].Name = "x" }), claim(func(*resourcev1.DeviceClaim) {})),
			[]string{"spec: Invalid value: null: field is immutable"}},
		"good slice": {rules["resourceslices"].Validate(t.Context(), slice(func(*resourcev1.ResourceSliceSpec) {})), nil},
		"attribute": {rules["resourceslices"].Validate(t.Context(), slice(func(s *resourcev1.ResourceSliceSpec) {
			s.Devices[0].Attributes = map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{"a": {}, "b": {IntValue: ptr.To[int64](1), BoolValue: ptr.To(true)}}
		})), []string{
			"spec.devices[0].attributes[a]: Invalid value: \"\": must specify one of: `int`, `bool`, `string`, `version`, `ints`, `bools`, `strings`, `versions`",
			"spec.devices[0].attributes[b]: Invalid value: \"{int, bool}\": must specify exactly one of: `int`, `bool`, `string`, `version`, `ints`, `bools`, `strings`, `versions`",
		}},
		"taint": {rules["resourceslices"].Validate(t.Context(), slice(func(s *resourcev1.ResourceSliceSpec) {
			s.Devices[0].Taints = []resourcev1.DeviceTaint{{Key: "k"}, {Key: "l", Effect: "Bad"}}
		})), []string{
			"spec.devices[0].taints[0].effect: Required value",
			`spec.devices[0].taints[1].effect: Unsupported value: "Bad": supported values: "NoExecute", "NoSchedule", "None"`,
		}},
		"class": {rules["deviceclasses"].Validate(t.Context(), &resourcev1.DeviceClass{Spec: resourcev1.DeviceClassSpec{ExtendedResourceName: ptr.To("cpu")}}), []string{
			`spec.extendedResourceName: Invalid value: "cpu": a name must be a domain-prefixed path, such as 'example.com/my-prop'`,
		}},
		"taint rule": {rules["devicetaintrules"].Validate(t.Context(), &resourcev1.DeviceTaintRule{Spec: resourcev1.DeviceTaintRuleSpec{Taint: resourcev1.DeviceTaint{Key: "k"}}}), []string{
			"spec.taint.effect: Required value",
		}},
	} {
		t.Run(name, func(t *testing.T) { ruletest.Expect(t, test.found, test.want...) })
	}
}
