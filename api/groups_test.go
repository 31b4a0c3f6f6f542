// Package api_test checks the kinds of the smaller groups.
package api_test

import (
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	hpa "hyperkube/api/autoscaling/horizontalpodautoscaler"
	"hyperkube/api/coordination/lease"
	"hyperkube/api/discovery/endpointslice"
	"hyperkube/api/networking/ingress"
	"hyperkube/api/networking/networkpolicy"
	"hyperkube/api/node/runtimeclass"
	"hyperkube/api/policy/poddisruptionbudget"
	"hyperkube/api/rule/ruletest"
	"hyperkube/api/scheduling/priorityclass"
	"hyperkube/api/storage/storageclass"
)

func TestEndpointSlice(t *testing.T) {
	s := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}}}, Ports: []discoveryv1.EndpointPort{{Port: ptr.To[int32](80)}}}
	endpointslice.SetDefaults(s)
	if *s.Ports[0].Name != "" || *s.Ports[0].Protocol != v1.ProtocolTCP {
		t.Errorf("defaults: %+v", s.Ports)
	}
	ruletest.Expect(t, endpointslice.Validate(s))
	other := s.DeepCopy()
	other.AddressType, other.Endpoints = discoveryv1.AddressTypeFQDN, nil
	ruletest.Expect(t, endpointslice.ValidateUpdate(other, s), "addressType: Invalid value … field is immutable")
	s.Endpoints = []discoveryv1.Endpoint{{}, {Addresses: []string{"127.0.0.1"}}}
	ruletest.Expect(t, endpointslice.Validate(s), "endpoints[0].addresses: Required value", "endpoints[1].addresses[0]: Invalid value … loopback")
	s.Ports[0].Protocol, s.Endpoints = ptr.To[v1.Protocol](""), nil
	ruletest.Expect(t, endpointslice.Validate(s), `ports[0].protocol: Unsupported value: "": supported values: "SCTP", "TCP", "UDP"`)
	s.Endpoints, s.Ports = []discoveryv1.Endpoint{}, nil
	if endpointslice.SetDefaults(s); s.Endpoints != nil {
		t.Error("an empty list is not kept as one")
	}
	s.Endpoints, s.AddressType = make([]discoveryv1.Endpoint, 1001), ""
	ruletest.Expect(t, endpointslice.Validate(s), "addressType: Required value", "endpoints: Too many: 1001: must have at most 1000 items")
}

func TestLease(t *testing.T) {
	l := &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{LeaseDurationSeconds: ptr.To[int32](40)}}
	ruletest.Expect(t, lease.Validate(l))
	l.Spec.LeaseDurationSeconds, l.Spec.LeaseTransitions = ptr.To[int32](0), ptr.To[int32](-1)
	ruletest.Expect(t, lease.Validate(l), "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0", "spec.leaseTransitions: Invalid value: -1")
	// Coordinated election is off: only a lease that has its fields keeps them.
	l.Spec.Strategy, l.Spec.PreferredHolder = ptr.To(coordinationv1.OldestEmulationVersion), ptr.To("a")
	old := &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{Strategy: l.Spec.Strategy}}
	if lease.DropDisabled(l, old); l.Spec.Strategy == nil || l.Spec.PreferredHolder != nil {
		t.Errorf("of a lease with a strategy: %+v", l.Spec)
	}
	if lease.DropDisabled(l, nil); l.Spec.Strategy != nil {
		t.Errorf("of a new lease: %+v", l.Spec)
	}
}

func TestPodDisruptionBudget(t *testing.T) {
	half := intstr.FromString("50%")
	pdb := &policyv1.PodDisruptionBudget{Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &half}}
	ruletest.Expect(t, poddisruptionbudget.Validate(pdb))
	pdb.Spec.MaxUnavailable = &half
	ruletest.Expect(t, poddisruptionbudget.Validate(pdb), "spec: Invalid value … minAvailable and maxUnavailable cannot be both set")
}

func TestPriorityClass(t *testing.T) {
	for _, class := range priorityclass.SystemPriorityClasses() {
		ruletest.Expect(t, priorityclass.Validate(class))
	}
	pc := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 1000000001}
	priorityclass.SetDefaults(pc)
	ruletest.Expect(t, priorityclass.Validate(pc), "value: Forbidden: maximum allowed value of a user defined priority is 1000000000")
	pc.Name, pc.Value = "system-mine", 5
	ruletest.Expect(t, priorityclass.Validate(pc), "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only")
	old := pc.DeepCopy()
	old.Value = 6
	ruletest.Expect(t, priorityclass.ValidateUpdate(pc, old), "value: Forbidden: may not be changed in an update.")
}

func TestStorageClass(t *testing.T) {
	c := &storagev1.StorageClass{Provisioner: "example.com/a"}
	storageclass.SetDefaults(c)
	if *c.ReclaimPolicy != v1.PersistentVolumeReclaimDelete || *c.VolumeBindingMode != storagev1.VolumeBindingImmediate {
		t.Errorf("defaults: %+v", c)
	}
	ruletest.Expect(t, storageclass.Validate(c))
	other := c.DeepCopy()
	other.Provisioner = "example.com/b"
	ruletest.Expect(t, storageclass.ValidateUpdate(other, c), "provisioner: Invalid value: null: field is immutable")
}

func TestHorizontalPodAutoscaler(t *testing.T) {
	a := &autoscalingv2.HorizontalPodAutoscaler{Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		MaxReplicas: 3, ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"},
		Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{},
	}}
	hpa.SetDefaults(a)
	if *a.Spec.MinReplicas != 1 || *a.Spec.Metrics[0].Resource.Target.AverageUtilization != 80 || len(a.Spec.Behavior.ScaleUp.Policies) != 2 || a.Spec.Behavior.ScaleDown.StabilizationWindowSeconds != nil {
		t.Errorf("defaults: %+v", a.Spec)
	}
	ruletest.Expect(t, hpa.Validate(a))
	a.Status.Conditions = []autoscalingv2.HorizontalPodAutoscalerCondition{{}, {ObservedGeneration: ptr.To[int64](-1)}}
	ruletest.Expect(t, hpa.ValidateStatusUpdate(a, a), "status.conditions[1].observedGeneration: Invalid value: -1")
	a.Spec.MinReplicas = ptr.To[int32](5)
	ruletest.Expect(t, hpa.Validate(a), "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`")
	a.Spec.MinReplicas, a.Spec.ScaleTargetRef.Name, a.Spec.Metrics[0].Resource = nil, "", nil
	ruletest.Expect(t, hpa.Validate(a), "spec.scaleTargetRef.name: Required value", "spec.metrics[0].resource: Required value")
}

func TestHorizontalPodAutoscalerRules(t *testing.T) {
	for name, test := range map[string]struct {
		change func(s *autoscalingv2.HorizontalPodAutoscalerSpec)
		want   []string
	}{
		"slash": {func(s *autoscalingv2.HorizontalPodAutoscalerSpec) { s.ScaleTargetRef.Name = "a/b" }, []string{`spec.scaleTargetRef.name: Invalid value: "a/b": may not contain '/'`}},
		"window": {func(s *autoscalingv2.HorizontalPodAutoscalerSpec) {
			s.Behavior.ScaleUp.StabilizationWindowSeconds = ptr.To[int32](3601)
		}, []string{"spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600"}},
		"period": {func(s *autoscalingv2.HorizontalPodAutoscalerSpec) { s.Behavior.ScaleDown.Policies[0].PeriodSeconds = 0 }, []string{"spec.behavior.scaleDown.policies[0].periodSeconds: Invalid value: 0: must be greater than zero"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := &autoscalingv2.HorizontalPodAutoscaler{Spec: autoscalingv2.HorizontalPodAutoscalerSpec{MaxReplicas: 3,
				ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}, Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{}}}
			hpa.SetDefaults(a)
			test.change(&a.Spec)
			ruletest.Expect(t, hpa.Validate(a), test.want...)
		})
	}
}

// A metric says of which sort it is, and brings that source and no other.
func TestHorizontalPodAutoscalerSources(t *testing.T) {
	id := autoscalingv2.MetricIdentifier{Name: "m"}
	one, zero := ptr.To(resource.MustParse("1")), ptr.To(resource.MustParse("0"))
	value := autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: one}
	average := autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: one}
	nothing := autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType}
	ingress := autoscalingv2.CrossVersionObjectReference{APIVersion: "networking.k8s.io/v1", Kind: "Ingress", Name: "i"}
	const at = "spec.metrics[0]."
	for name, test := range map[string]struct {
		metric autoscalingv2.MetricSpec
		want   []string
	}{
		"object":    {autoscalingv2.MetricSpec{Type: "Object", Object: &autoscalingv2.ObjectMetricSource{DescribedObject: ingress, Metric: id, Target: value}}, nil},
		"pods":      {autoscalingv2.MetricSpec{Type: "Pods", Pods: &autoscalingv2.PodsMetricSource{Metric: id, Target: average}}, nil},
		"external":  {autoscalingv2.MetricSpec{Type: "External", External: &autoscalingv2.ExternalMetricSource{Metric: id, Target: average}}, nil},
		"no type":   {autoscalingv2.MetricSpec{}, []string{at + "type: Required value: must specify a metric source type", at + "type: Unsupported value: \"\""}},
		"no source": {autoscalingv2.MetricSpec{Type: "Pods"}, []string{at + "pods: Required value: must populate information for the given metric source"}},
		"two sources": {autoscalingv2.MetricSpec{Type: "Pods", Pods: &autoscalingv2.PodsMetricSource{Metric: id, Target: average}, External: &autoscalingv2.ExternalMetricSource{Metric: id, Target: average}},
			[]string{at + "external: Forbidden: must populate the given metric source only"}},
		"object without a target": {autoscalingv2.MetricSpec{Type: "Object", Object: &autoscalingv2.ObjectMetricSource{DescribedObject: ingress, Metric: id, Target: nothing}},
			[]string{at + "object.target.averageValue: Required value: must set either a target value or averageValue"}},
		"object of nothing": {autoscalingv2.MetricSpec{Type: "Object", Object: &autoscalingv2.ObjectMetricSource{Metric: id, Target: value}},
			[]string{at + "object.describedObject.kind: Required value", at + "object.describedObject.name: Required value"}},
		"pods by value": {autoscalingv2.MetricSpec{Type: "Pods", Pods: &autoscalingv2.PodsMetricSource{Metric: id, Target: value}},
			[]string{at + "pods.target.averageValue: Required value: must specify a positive target averageValue"}},
		"no metric": {autoscalingv2.MetricSpec{Type: "Pods", Pods: &autoscalingv2.PodsMetricSource{Target: average}}, []string{at + "pods.metric.name: Required value: must specify a metric name"}},
		"external by both": {autoscalingv2.MetricSpec{Type: "External", External: &autoscalingv2.ExternalMetricSource{Metric: id, Target: autoscalingv2.MetricTarget{Type: "Value", Value: one, AverageValue: one}}},
			[]string{at + "external.target.value: Forbidden: may not set both a target value for metric and a per-pod target"}},
		"external by nothing": {autoscalingv2.MetricSpec{Type: "External", External: &autoscalingv2.ExternalMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "a/b"}, Target: nothing}},
			[]string{at + "external.metric.name: Invalid value: \"a/b\": may not contain '/'", at + "external.target.averageValue: Required value: must set either a target value for metric or a per-pod target"}},
		"resource by nothing": {autoscalingv2.MetricSpec{Type: "Resource", Resource: &autoscalingv2.ResourceMetricSource{Target: autoscalingv2.MetricTarget{Type: "Share"}}},
			[]string{at + "resource.name: Required value: must specify a resource name", at + "resource.target.type: Invalid value: \"Share\": must be either Utilization, Value, or AverageValue",
				at + "resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization"}},
		"resource by both": {autoscalingv2.MetricSpec{Type: "Resource", Resource: &autoscalingv2.ResourceMetricSource{Name: "cpu", Target: autoscalingv2.MetricTarget{Type: "Utilization", AverageUtilization: ptr.To[int32](0), AverageValue: zero}}},
			[]string{at + "resource.target.averageValue: Invalid value: \"0\": must be positive", at + "resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
				at + "resource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization"}},
		"container": {autoscalingv2.MetricSpec{Type: "ContainerResource", ContainerResource: &autoscalingv2.ContainerResourceMetricSource{Target: average}},
			[]string{at + "containerResource.name: Required value: must specify a resource name", at + "containerResource.container: Required value: must specify a container"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := &autoscalingv2.HorizontalPodAutoscaler{Spec: autoscalingv2.HorizontalPodAutoscalerSpec{MaxReplicas: 3, Metrics: []autoscalingv2.MetricSpec{test.metric},
				ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}}}
			hpa.SetDefaults(a)
			ruletest.Expect(t, hpa.Validate(a), test.want...)
		})
	}
	// From zero, only what is not of the pods can tell that some are wanted.
	a := &autoscalingv2.HorizontalPodAutoscaler{Spec: autoscalingv2.HorizontalPodAutoscalerSpec{MinReplicas: ptr.To[int32](0), MaxReplicas: 3,
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}}}
	hpa.SetDefaults(a)
	ruletest.Expect(t, hpa.Validate(a), "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas")
}

func TestRuntimeClass(t *testing.T) {
	class := &nodev1.RuntimeClass{Handler: "runc"}
	ruletest.Expect(t, runtimeclass.Validate(class))
	ruletest.Expect(t, runtimeclass.Validate(&nodev1.RuntimeClass{}), "handler: Required value")
	ruletest.Expect(t, runtimeclass.Validate(&nodev1.RuntimeClass{Handler: "a.b"}), `handler: Invalid value: "a.b": must not contain dots`)
	ruletest.Expect(t, runtimeclass.ValidateUpdate(&nodev1.RuntimeClass{Handler: "other"}, class), "handler: Invalid value: null: field is immutable")
	ruletest.Expect(t, runtimeclass.ValidateUpdate(&nodev1.RuntimeClass{}, class), "handler: Invalid value: null: field is immutable", "handler: Required value")
	twice := v1.Toleration{Key: "k", Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoSchedule}
	ruletest.Expect(t, runtimeclass.Validate(&nodev1.RuntimeClass{Handler: "a",
		Overhead:   &nodev1.Overhead{PodFixed: v1.ResourceList{"cpu": resource.MustParse("-1")}},
		Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"a b": "c"}, Tolerations: []v1.Toleration{twice, twice}},
	}), "overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0", `scheduling.nodeSelector: Invalid value: "a b"`, "scheduling.tolerations[1]: Duplicate value")
	if got := runtimeclass.Warnings(&nodev1.RuntimeClass{Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"beta.kubernetes.io/os": "linux"}}}); len(got) != 1 ||
		got[0] != `scheduling.nodeSelector: deprecated since v1.14; use "kubernetes.io/os" instead` {
		t.Errorf("warnings: %q", got)
	}
	if got := runtimeclass.Warnings(class); got != nil {
		t.Errorf("warnings of nothing: %q", got)
	}
}

// v1 shows less, and loses nothing.
func TestHorizontalPodAutoscalerConversion(t *testing.T) {
	a := &autoscalingv2.HorizontalPodAutoscaler{
		TypeMeta:   metav1.TypeMeta{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler"},
		ObjectMeta: metav1.ObjectMeta{Name: "a", Annotations: map[string]string{"b": "c"}},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{MaxReplicas: 3, ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}, Metrics: []autoscalingv2.MetricSpec{
			{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: v1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: ptr.To[int32](50)}}},
			{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "m"}, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: ptr.To(resource.MustParse("5"))}}},
			{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "e"}, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: ptr.To(resource.MustParse("2"))}}},
			{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "o"}, DescribedObject: autoscalingv2.CrossVersionObjectReference{Kind: "Ingress", Name: "i"}, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: ptr.To(resource.MustParse("3"))}}},
		}, Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: ptr.To[int32](3), SelectPolicy: ptr.To(autoscalingv2.MaxChangePolicySelect), Policies: []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15}}}}},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{CurrentReplicas: 2, CurrentMetrics: []autoscalingv2.MetricStatus{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricStatus{Name: v1.ResourceCPU, Current: autoscalingv2.MetricValueStatus{AverageUtilization: ptr.To[int32](7), AverageValue: ptr.To(resource.MustParse("9m"))}}}}, Conditions: []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.AbleToScale, Status: v1.ConditionTrue}}},
	}
	one := hpa.ToV1(a)
	if *one.Spec.TargetCPUUtilizationPercentage != 50 || len(a.Annotations) != 1 {
		t.Errorf("v1: %+v", one)
	}
	// The shape of the annotations is that of v1's own metrics, and of a behavior without names for JSON: clients read and write them.
	for key, want := range map[string]string{
		"metrics":         `[{"type":"Pods","pods":{"metricName":"m","targetAverageValue":"5"}},{"type":"External","external":{"metricName":"e","targetValue":"2"}},{"type":"Object","object":{"target":{"kind":"Ingress","name":"i"},"metricName":"o","targetValue":"0","averageValue":"3"}}]`,
		"current-metrics": `[{"type":"Resource","resource":{"name":"cpu","currentAverageUtilization":7,"currentAverageValue":"9m"}}]`,
		"behavior":        `{"ScaleUp":{"StabilizationWindowSeconds":3,"SelectPolicy":"Max","Policies":[{"Type":"Pods","Value":4,"PeriodSeconds":15}],"Tolerance":null},"ScaleDown":null}`,
		"conditions":      `[{"type":"AbleToScale","status":"True","lastTransitionTime":null}]`,
	} {
		if got := one.Annotations["autoscaling.alpha.kubernetes.io/"+key]; got != want {
			t.Errorf("%s: %s\nwant %s", key, got, want)
		}
	}
	if n := one.Status.CurrentCPUUtilizationPercentage; n == nil || *n != 7 {
		t.Errorf("status: %+v", one.Status)
	}
	// The use of CPU comes back as the last.
	a.Spec.Metrics = append(a.Spec.Metrics[1:], a.Spec.Metrics[0])
	if back := hpa.ToV2(one); !equality.Semantic.DeepEqual(a, back) {
		t.Error(diff.Diff(a, back))
	}
	one.Annotations = map[string]string{"b": "c", "autoscaling.alpha.kubernetes.io/metrics": "what?"}
	if back := hpa.ToV2(one); len(back.Spec.Metrics) != 1 || len(back.Annotations) != 1 || *back.Status.CurrentMetrics[0].Resource.Current.AverageUtilization != 7 {
		t.Errorf("of annotations that nobody can read: %+v", back)
	}
}

func TestIngress(t *testing.T) {
	path := networkingv1.HTTPIngressPath{Path: "/a", PathType: ptr.To(networkingv1.PathTypePrefix), Backend: networkingv1.IngressBackend{
		Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Number: 80}}}}
	with := func(host string, change func(*networkingv1.HTTPIngressPath)) *networkingv1.Ingress {
		p := *path.DeepCopy()
		change(&p)
		return &networkingv1.Ingress{Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{
			HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{p}}}}}}}
	}
	same := func(*networkingv1.HTTPIngressPath) {}
	ruletest.Expect(t, ingress.Validate(with("*.example.com", same)))
	ruletest.Expect(t, ingress.Validate(&networkingv1.Ingress{}), "spec: Invalid value … either `defaultBackend` or `rules` must be specified")
	ruletest.Expect(t, ingress.Validate(with("10.0.0.1", same)), "spec.rules[0].host: Invalid value … must be a DNS name, not an IP address")
	ruletest.Expect(t, ingress.Validate(with("", func(p *networkingv1.HTTPIngressPath) { p.Path = "a" })), "spec.rules[0].http.paths[0].path: Invalid value … must be an absolute path")
	ruletest.Expect(t, ingress.Validate(with("", func(p *networkingv1.HTTPIngressPath) { p.PathType = nil })), "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified")
	ruletest.Expect(t, ingress.Validate(with("", func(p *networkingv1.HTTPIngressPath) { p.Backend.Service.Port.Number = 0 })), "spec.rules[0].http.paths[0].backend: Required value: port name or number is required")
}

func TestNetworkPolicy(t *testing.T) {
	p := &networkingv1.NetworkPolicy{Spec: networkingv1.NetworkPolicySpec{Egress: []networkingv1.NetworkPolicyEgressRule{{Ports: []networkingv1.NetworkPolicyPort{{Port: ptr.To(intstr.FromInt32(80))}}}}}}
	networkpolicy.SetDefaults(p)
	if len(p.Spec.PolicyTypes) != 2 || *p.Spec.Egress[0].Ports[0].Protocol != v1.ProtocolTCP {
		t.Errorf("defaults: %+v", p.Spec)
	}
	ruletest.Expect(t, networkpolicy.Validate(p))
	p.Spec.Egress[0].To = []networkingv1.NetworkPolicyPeer{{}, {IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8", Except: []string{"11.0.0.0/16"}}}}
	p.Spec.Egress[0].Ports[0].EndPort = ptr.To[int32](79)
	ruletest.Expect(t, networkpolicy.Validate(p), "spec.egress[0].to[0]: Required value: must specify a peer",
		"spec.egress[0].to[1].ipBlock.except[0]: Invalid value … must be a strict subset of `cidr`", "spec.egress[0].ports[0].endPort: Invalid value: 79")
}
