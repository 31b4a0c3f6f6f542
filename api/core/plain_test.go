// Package core_test checks the plain kinds of the core group together: each has
// only a few rules of its own.
package core_test

import (
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"hyperkube/api/core/configmap"
	"hyperkube/api/core/endpoints"
	"hyperkube/api/core/event"
	"hyperkube/api/core/limitrange"
	"hyperkube/api/core/namespace"
	"hyperkube/api/core/node"
	"hyperkube/api/core/persistentvolume"
	"hyperkube/api/core/replicationcontroller"
	"hyperkube/api/core/resourcequota"
	"hyperkube/api/core/secret"
	"hyperkube/api/core/serviceaccount"
	"hyperkube/api/rule/ruletest"
)

func TestConfigMap(t *testing.T) {
	good := &v1.ConfigMap{Data: map[string]string{"a.txt": "b"}}
	ruletest.Expect(t, configmap.Validate(good))
	ruletest.Expect(t, configmap.Validate(&v1.ConfigMap{Data: map[string]string{"a/b": ""}}), "data[a/b]: Invalid value")
	ruletest.Expect(t, configmap.Validate(&v1.ConfigMap{Data: map[string]string{"a": ""}, BinaryData: map[string][]byte{"a": nil}}), "data[a]: Invalid value … duplicate of key present in binaryData")
	ruletest.Expect(t, configmap.Validate(&v1.ConfigMap{Data: map[string]string{"a": strings.Repeat("x", configmap.MaxSize+1)}}), "[]: Too long")
	frozen := &v1.ConfigMap{Data: good.Data, Immutable: ptr.To(true)}
	ruletest.Expect(t, configmap.ValidateUpdate(frozen, good))
	ruletest.Expect(t, configmap.ValidateUpdate(good, frozen), "immutable: Forbidden: field is immutable when `immutable` is set")
}

func TestSecret(t *testing.T) {
	s := &v1.Secret{StringData: map[string]string{"a": "b"}}
	secret.SetDefaults(s)
	if s.Type != v1.SecretTypeOpaque || string(s.Data["a"]) != "b" || s.StringData != nil {
		t.Errorf("defaults: %+v", s)
	}
	ruletest.Expect(t, secret.Validate(s))
	for _, test := range []struct {
		kind v1.SecretType
		data string
		want []string
	}{
		{v1.SecretTypeTLS, "", []string{"data[tls.crt]: Required value", "data[tls.key]: Required value"}},
		{v1.SecretTypeBasicAuth, "", []string{"data[username]: Required value", "data[password]: Required value"}},
		{v1.SecretTypeSSHAuth, "", []string{"data[ssh-privatekey]: Required value"}},
		{v1.SecretTypeDockerConfigJson, "", []string{"data[.dockerconfigjson]: Required value"}},
		{v1.SecretTypeDockerConfigJson, "{", []string{`data[.dockerconfigjson]: Invalid value: "<secret contents redacted>"`}},
		{v1.SecretTypeServiceAccountToken, "", []string{"metadata.annotations[kubernetes.io/service-account.name]: Required value"}},
	} {
		s := &v1.Secret{Type: test.kind, Data: map[string][]byte{}}
		if test.data != "" {
			s.Data[v1.DockerConfigJsonKey] = []byte(test.data)
		}
		ruletest.Expect(t, secret.Validate(s), test.want...)
	}
	other := s.DeepCopy()
	other.Type = "example.com/other"
	ruletest.Expect(t, secret.ValidateUpdate(other, s), "type: Invalid value … field is immutable")
}

func TestNamespace(t *testing.T) {
	ns := &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a"}}
	namespace.SetDefaults(ns)
	if ns.Labels["kubernetes.io/metadata.name"] != "a" || ns.Status.Phase != v1.NamespaceActive {
		t.Errorf("defaults: %+v", ns)
	}
	ns.Spec.Finalizers = []v1.FinalizerName{"kubernetes", "example.com/a"}
	ruletest.Expect(t, namespace.Validate(ns))
	ns.Spec.Finalizers = []v1.FinalizerName{"a"}
	ruletest.Expect(t, namespace.Validate(ns), "spec.finalizers: Invalid value … name is neither a standard finalizer name nor is it fully qualified")
	ns.Status.Phase = v1.NamespaceTerminating
	ruletest.Expect(t, namespace.ValidateStatusUpdate(ns, ns), "status.Phase: Invalid value … may only be 'Active' if `deletionTimestamp` is empty")
	ns.DeletionTimestamp = ptr.To(metav1.Now())
	ruletest.Expect(t, namespace.ValidateStatusUpdate(ns, ns))
}

func TestNode(t *testing.T) {
	n := &v1.Node{Spec: v1.NodeSpec{PodCIDR: "10.244.0.0/24"}, Status: v1.NodeStatus{Capacity: v1.ResourceList{v1.ResourcePods: resource.MustParse("110")}}}
	node.SetDefaults(n)
	if len(n.Spec.PodCIDRs) != 1 || !equality.Semantic.DeepEqual(n.Status.Allocatable, n.Status.Capacity) {
		t.Errorf("defaults: %+v", n)
	}
	ruletest.Expect(t, node.Validate(n))
	moved := n.DeepCopy()
	moved.Spec.PodCIDRs = []string{"10.244.1.0/24"}
	ruletest.Expect(t, node.ValidateUpdate(moved, n), "spec.podCIDRs: Forbidden: node updates may not change podCIDR")
	n.Spec.Taints = []v1.Taint{{Key: "a", Effect: v1.TaintEffectNoSchedule}, {Key: "a", Effect: v1.TaintEffectNoSchedule, Value: "b"}, {Key: "c", Effect: "x"}}
	ruletest.Expect(t, node.Validate(n), "metadata.taints[1]: Duplicate value … taints must be unique by key and effect pair", "metadata.taints[2].effect: Unsupported value")
}

func TestEndpoints(t *testing.T) {
	with := func(ip string, ports ...v1.EndpointPort) *v1.Endpoints {
		e := &v1.Endpoints{Subsets: []v1.EndpointSubset{{Addresses: []v1.EndpointAddress{{IP: ip}}, Ports: ports}}}
		endpoints.SetDefaults(e)
		return e
	}
	ruletest.Expect(t, endpoints.Validate(with("10.0.0.1", v1.EndpointPort{Port: 80})))
	ruletest.Expect(t, endpoints.Validate(with("127.0.0.1")), "subsets[0].addresses[0].ip: Invalid value … may not be in the loopback range")
	ruletest.Expect(t, endpoints.Validate(with("10.0.0.1", v1.EndpointPort{Port: 80}, v1.EndpointPort{Port: 0, Name: "b"})), "subsets[0].ports[0].name: Required value", "subsets[0].ports[1].port: Invalid value: 0")
	ruletest.Expect(t, endpoints.Validate(&v1.Endpoints{Subsets: []v1.EndpointSubset{{}}}), "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`")
}

func TestEvent(t *testing.T) {
	e := &v1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "a"}, InvolvedObject: v1.ObjectReference{Kind: "Pod", Namespace: "a"}}
	ruletest.Expect(t, event.Validate(e))
	e.InvolvedObject.Namespace = "b"
	ruletest.Expect(t, event.Validate(e), `involvedObject.namespace: Invalid value: "b": does not match event.namespace`)
	e.InvolvedObject.Namespace = "a"
	e.EventTime = metav1.NewMicroTime(time.Unix(1, 0))
	ruletest.Expect(t, event.Validate(e), "reportingComponent: Required value", "reportingComponent: Invalid value … name part must be non-empty", "reportingComponent: Invalid value … name part must consist", "reportingInstance: Required value", "action: Required value", "reason: Required value")
}

// Both views say the same: what goes through one comes back whole.
func TestEventConversion(t *testing.T) {
	e := &v1.Event{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Event"}, ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "a"},
		InvolvedObject: v1.ObjectReference{Kind: "Pod", Name: "p"}, Related: &v1.ObjectReference{Kind: "Node", Name: "n"},
		Reason: "r", Message: "m", Type: "Normal", Action: "act", Count: 3, ReportingController: "c", ReportingInstance: "i",
		Source: v1.EventSource{Component: "k", Host: "h"}, FirstTimestamp: metav1.Unix(1, 0), LastTimestamp: metav1.Unix(2, 0),
		EventTime: metav1.NewMicroTime(time.Unix(3, 0)), Series: &v1.EventSeries{Count: 5, LastObservedTime: metav1.NewMicroTime(time.Unix(4, 0))},
	}
	if back := event.ToCore(event.ToEvents(e)); !equality.Semantic.DeepEqual(e, back) {
		t.Errorf("%+v became %+v", e, back)
	}
}

func TestReplicationController(t *testing.T) {
	app := map[string]string{"a": "b"}
	rc := &v1.ReplicationController{Spec: v1.ReplicationControllerSpec{Template: &v1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: app}, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "a", Image: "a"}}},
	}}}
	replicationcontroller.SetDefaults(rc)
	if *rc.Spec.Replicas != 1 || rc.Spec.Selector["a"] != "b" || rc.Labels["a"] != "b" {
		t.Errorf("defaults: %+v", rc)
	}
	ruletest.Expect(t, replicationcontroller.Validate(rc))
	rc.Spec.Selector = map[string]string{"c": "d"}
	ruletest.Expect(t, replicationcontroller.Validate(rc), "spec.template.metadata.labels: Invalid value … `selector` does not match template `labels`")
}

func TestLimitRange(t *testing.T) {
	list := func(cpu string) v1.ResourceList { return v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)} }
	l := &v1.LimitRange{Spec: v1.LimitRangeSpec{Limits: []v1.LimitRangeItem{{Type: v1.LimitTypeContainer, Max: list("2"), Min: list("1")}}}}
	limitrange.SetDefaults(l)
	item := l.Spec.Limits[0]
	if item.Default.Cpu().String() != "2" || item.DefaultRequest.Cpu().String() != "2" {
		t.Errorf("defaults: %+v", item)
	}
	ruletest.Expect(t, limitrange.Validate(l))
	l.Spec.Limits[0].Min = list("3")
	ruletest.Expect(t, limitrange.Validate(l),
		"spec.limits[0].min[cpu]: Invalid value … min value 3 is greater than max value 2",
		"spec.limits[0].default[cpu]: Invalid value … min value 3 is greater than default value 2",
		"spec.limits[0].defaultRequest[cpu]: Invalid value … min value 3 is greater than default request value 2")
	for name, test := range map[string]struct {
		item v1.LimitRangeItem
		want []string
	}{
		"ratio": {v1.LimitRangeItem{Type: v1.LimitTypePod, Min: list("1"), Max: list("2"), MaxLimitRequestRatio: list("3")},
			[]string{`spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "3": ratio 3 is greater than max/min = 2.000000`}},
		"small ratio": {v1.LimitRangeItem{Type: v1.LimitTypePod, MaxLimitRequestRatio: list("500m")},
			[]string{`spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1`}},
		"pod's default": {v1.LimitRangeItem{Type: v1.LimitTypePod, Default: list("1")}, []string{"spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"}},
		"claim":         {v1.LimitRangeItem{Type: v1.LimitTypePersistentVolumeClaim}, []string{"spec.limits[0].limits: Required value: either minimum or maximum storage value is required"}},
		"type":          {v1.LimitRangeItem{Type: "Node", Max: list("1")}, []string{`spec.limits[0].type: Invalid value: "Node": must be a standard limit type or fully qualified`}},
		"not a container's": {v1.LimitRangeItem{Type: v1.LimitTypePod, Max: v1.ResourceList{v1.ResourceStorage: resource.MustParse("1")}},
			[]string{`spec.limits[0].max[storage]: Invalid value: "storage": must be a standard resource for containers`}},
	} {
		t.Run(name, func(t *testing.T) {
			ruletest.Expect(t, limitrange.Validate(&v1.LimitRange{Spec: v1.LimitRangeSpec{Limits: []v1.LimitRangeItem{test.item}}}), test.want...)
		})
	}
}

func TestResourceQuota(t *testing.T) {
	q := &v1.ResourceQuota{Spec: v1.ResourceQuotaSpec{Hard: v1.ResourceList{v1.ResourcePods: resource.MustParse("500m")}}}
	ruletest.Expect(t, resourcequota.Validate(q), "spec.hard[pods]: Invalid value … must be an integer")
	q.Spec.Hard = nil
	q.Spec.Scopes = []v1.ResourceQuotaScope{v1.ResourceQuotaScopeBestEffort, v1.ResourceQuotaScopeNotBestEffort}
	ruletest.Expect(t, resourcequota.Validate(q), "spec.scopes: Invalid value … conflicting scopes")
	with := func(scope v1.ResourceQuotaScope, operator v1.ScopeSelectorOperator, hard v1.ResourceName, values ...string) *v1.ResourceQuota {
		return &v1.ResourceQuota{Spec: v1.ResourceQuotaSpec{
			Hard:          v1.ResourceList{hard: resource.MustParse("1")},
			ScopeSelector: &v1.ScopeSelector{MatchExpressions: []v1.ScopedResourceSelectorRequirement{{ScopeName: scope, Operator: operator, Values: values}}},
		}}
	}
	for name, test := range map[string]struct {
		quota *v1.ResourceQuota
		want  []string
	}{
		"class":        {with(v1.ResourceQuotaScopePriorityClass, v1.ScopeSelectorOpIn, v1.ResourcePods, "high"), nil},
		"extended":     {with(v1.ResourceQuotaScopeBestEffort, v1.ScopeSelectorOpExists, "requests.example.com/gpu"), nil},
		"no values":    {with(v1.ResourceQuotaScopePriorityClass, v1.ScopeSelectorOpIn, v1.ResourcePods), []string{"spec.scopeSelector.matchExpressions.values: Required value: must be at least one value"}},
		"values":       {with(v1.ResourceQuotaScopeBestEffort, v1.ScopeSelectorOpExists, v1.ResourcePods, "a"), []string{"spec.scopeSelector.matchExpressions.values: Invalid value … must be no value"}},
		"operator":     {with(v1.ResourceQuotaScopeBestEffort, v1.ScopeSelectorOpIn, v1.ResourcePods, "a"), []string{"spec.scopeSelector.matchExpressions.operator: Invalid value … must be 'Exists'"}},
		"resource":     {with(v1.ResourceQuotaScopeBestEffort, v1.ScopeSelectorOpExists, v1.ResourceRequestsCPU), []string{"spec.scopeSelector.matchExpressions: Invalid value … unsupported scope applied to resource"}},
		"scope":        {with("x", v1.ScopeSelectorOpExists, "requests.example.com/gpu"), []string{"spec.scopeSelector.matchExpressions.scopeName: Invalid value … unsupported scope"}},
		"unknown name": {&v1.ResourceQuota{Spec: v1.ResourceQuotaSpec{Hard: v1.ResourceList{"gpus": resource.MustParse("1")}}}, []string{"spec.hard[gpus]: Invalid value … must be a standard resource type or fully qualified", "spec.hard[gpus]: Invalid value … must be a standard resource for quota"}},
	} {
		t.Run(name, func(t *testing.T) { ruletest.Expect(t, resourcequota.Validate(test.quota), test.want...) })
	}
}

func TestPersistentVolumeAndClaim(t *testing.T) {
	pv := &v1.PersistentVolume{Spec: v1.PersistentVolumeSpec{
		AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}, Capacity: v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")},
		PersistentVolumeSource: v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: "/a"}},
	}}
	persistentvolume.SetDefaultsVolume(pv)
	ruletest.Expect(t, persistentvolume.ValidateVolume(pv))
	moved := pv.DeepCopy()
	moved.Spec.HostPath.Path = "/b"
	ruletest.Expect(t, persistentvolume.ValidateVolumeUpdate(moved, pv), "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation")
	ruletest.Expect(t, persistentvolume.ValidateVolume(&v1.PersistentVolume{}), "spec.accessModes: Required value", "spec.capacity: Required value", "spec.capacity: Unsupported value", "spec: Required value: must specify a volume type")

	claim := &v1.PersistentVolumeClaim{Spec: v1.PersistentVolumeClaimSpec{
		AccessModes: pv.Spec.AccessModes, Resources: v1.VolumeResourceRequirements{Requests: pv.Spec.Capacity},
	}}
	persistentvolume.SetDefaultsClaim(claim)
	ruletest.Expect(t, persistentvolume.ValidateClaim(claim))
	bound := claim.DeepCopy()
	bound.Spec.VolumeName = "v"
	ruletest.Expect(t, persistentvolume.ValidateClaimUpdate(bound, claim))
	bound.Status.Phase = v1.ClaimBound
	larger := bound.DeepCopy()
	larger.Spec.Resources.Requests[v1.ResourceStorage] = resource.MustParse("2Gi")
	ruletest.Expect(t, persistentvolume.ValidateClaimUpdate(larger, bound))
	other := bound.DeepCopy()
	other.Spec.VolumeName = "w"
	ruletest.Expect(t, persistentvolume.ValidateClaimUpdate(other, bound), "spec: Forbidden: spec is immutable after creation")
}

// Of the secrets of an account, the names count; whoever asks anew for what is on its way out is told.
func TestServiceAccount(t *testing.T) {
	plain := &v1.ServiceAccount{Secrets: []v1.ObjectReference{{Name: "a", Namespace: "other", UID: "u", Kind: "Secret"}, {Name: "b"}}}
	serviceaccount.KeepSecretNames(plain)
	if plain.Secrets[0] != (v1.ObjectReference{Name: "a"}) || plain.Secrets[1] != (v1.ObjectReference{Name: "b"}) {
		t.Errorf("secrets: %+v", plain.Secrets)
	}
	const annotation = "kubernetes.io/enforce-mountable-secrets"
	strict := &v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{annotation: "false"}}}
	const want = "metadata.annotations[" + annotation + "]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
	for name, test := range map[string]struct {
		now, old *v1.ServiceAccount
		warned   bool
	}{"new": {strict, nil, true}, "added": {strict, plain, true}, "kept": {strict, strict, false}, "removed": {plain, strict, false}, "none": {plain, nil, false}} {
		if got := serviceaccount.Warnings(test.now, test.old); (len(got) == 1 && got[0] == want) != test.warned || len(got) > 1 {
			t.Errorf("%s: %q", name, got)
		}
	}
}
