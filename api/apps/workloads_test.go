// Package apps_test checks what the workloads have beside the pod template.
package apps_test

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"hyperkube/api/apps/controllerrevision"
	"hyperkube/api/apps/daemonset"
	"hyperkube/api/apps/replicaset"
	"hyperkube/api/apps/statefulset"
	"hyperkube/api/rule/ruletest"
)

var app = map[string]string{"app": "web"}

func template() v1.PodTemplateSpec {
	return v1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: app}, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "web", Image: "i"}}}}
}

func TestReplicaSet(t *testing.T) {
	rs := &appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: app}, Template: template()}}
	replicaset.SetDefaults(rs)
	if *rs.Spec.Replicas != 1 || rs.Spec.Template.Spec.RestartPolicy != v1.RestartPolicyAlways {
		t.Errorf("defaults: %+v", rs.Spec)
	}
	ruletest.Expect(t, replicaset.Validate(rs))
	old := rs.DeepCopy()
	rs.Spec.Selector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpExists}}}
	ruletest.Expect(t, replicaset.ValidateUpdate(rs, old), "spec.selector: Invalid value … field is immutable")
	rs.Status.ReadyReplicas = 1
	ruletest.Expect(t, replicaset.ValidateStatusUpdate(rs, old), "status.readyReplicas: Invalid value: 1: cannot be greater than status.replicas")
}

func TestDaemonSet(t *testing.T) {
	ds := &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: app}, Template: template()}}
	daemonset.SetDefaults(ds)
	rolling := ds.Spec.UpdateStrategy.RollingUpdate
	if rolling.MaxUnavailable.IntValue() != 1 || rolling.MaxSurge.IntValue() != 0 || *ds.Spec.RevisionHistoryLimit != 10 {
		t.Errorf("defaults: %+v", ds.Spec)
	}
	ruletest.Expect(t, daemonset.Validate(ds))
	deleted := &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{}}}}
	if daemonset.SetDefaults(deleted); deleted.Spec.UpdateStrategy.RollingUpdate.MaxSurge == nil {
		t.Error("a rolling update that nobody asked for has numbers, too")
	}
	rolling.MaxSurge = ptr.To(intstr.FromString("10%"))
	ruletest.Expect(t, daemonset.Validate(ds), "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value … may not be set when maxUnavailable is non-zero")
	rolling.MaxSurge, rolling.MaxUnavailable = nil, ptr.To(intstr.FromString("0%"))
	ruletest.Expect(t, daemonset.Validate(ds), "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0")
}

func TestStatefulSet(t *testing.T) {
	set := &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: app}, Template: template(),
		VolumeClaimTemplates: []v1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: v1.PersistentVolumeClaimSpec{
			AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
			Resources:   v1.VolumeResourceRequirements{Requests: v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")}},
		}}},
	}}
	// A mount of a claim that becomes a volume only in the pods.
	set.Spec.Template.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "data", MountPath: "/data"}}
	statefulset.SetDefaults(set)
	spec := set.Spec
	if spec.PodManagementPolicy != appsv1.OrderedReadyPodManagement || *spec.UpdateStrategy.RollingUpdate.Partition != 0 || spec.UpdateStrategy.RollingUpdate.MaxUnavailable.IntValue() != 1 || *spec.Replicas != 1 ||
		spec.PersistentVolumeClaimRetentionPolicy.WhenScaled != appsv1.RetainPersistentVolumeClaimRetentionPolicyType || *spec.VolumeClaimTemplates[0].Spec.VolumeMode != v1.PersistentVolumeFilesystem {
		t.Errorf("defaults: %+v", spec)
	}
	ruletest.Expect(t, statefulset.Validate(set))
	old := set.DeepCopy()
	set.Spec.Replicas = ptr.To[int32](3)
	ruletest.Expect(t, statefulset.ValidateUpdate(set, old))
	set.Spec.ServiceName = "other"
	ruletest.Expect(t, statefulset.ValidateUpdate(set, old), "spec.serviceName: Invalid value: \"other\": field is immutable")
	set.Spec.PodManagementPolicy, set.Spec.Selector, set.Spec.VolumeClaimTemplates[0].Labels = appsv1.ParallelPodManagement, &metav1.LabelSelector{MatchLabels: set.Spec.Template.Labels}, map[string]string{"a": "b"}
	set.Spec.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "no", Operator: metav1.LabelSelectorOpDoesNotExist}}
	ruletest.Expect(t, statefulset.ValidateUpdate(set, old), "spec.selector: Invalid value … field is immutable",
		`spec.volumeClaimTemplates: Invalid value: [{"name":"data","labels":{"a":"b"},"Spec":{`, "spec.serviceName: Invalid value", `spec.podManagementPolicy: Invalid value: "Parallel": field is immutable`)
	set.Spec.UpdateStrategy.Type = appsv1.OnDeleteStatefulSetStrategyType
	ruletest.Expect(t, statefulset.Validate(set), "spec.updateStrategy.rollingUpdate: Invalid value … only allowed for updateStrategy 'RollingUpdate'")
	if len(statefulset.ValidateName("a.b", false)) == 0 {
		t.Error("a set named a.b would have pods without a host name")
	}
}

// A revision is laid over another object: its data must be one, and stay as it is.
func TestControllerRevision(t *testing.T) {
	revision := func(number int64, data string) *appsv1.ControllerRevision {
		r := &appsv1.ControllerRevision{Revision: number}
		if data != "" {
			r.Data.Raw = []byte(data)
		}
		return r
	}
	good := revision(1, `{"spec":{}}`)
	ruletest.Expect(t, controllerrevision.Validate(good))
	ruletest.Expect(t, controllerrevision.Validate(revision(-1, `{}`)), "revision: Invalid value: -1: must be greater than or equal to 0")
	ruletest.Expect(t, controllerrevision.Validate(revision(1, "")), "data: Required value: data is mandatory")
	ruletest.Expect(t, controllerrevision.Validate(revision(1, "null")), "data: Required value: data is mandatory")
	ruletest.Expect(t, controllerrevision.Validate(revision(1, "[1]")), "data: Required value: data must be a valid JSON object")
	ruletest.Expect(t, controllerrevision.Validate(revision(1, "{")), `data: Invalid value: "<value omitted>": error parsing data: unexpected end of JSON input`)
	ruletest.Expect(t, controllerrevision.ValidateUpdate(revision(2, `{"spec":{}}`), good))
	ruletest.Expect(t, controllerrevision.ValidateUpdate(revision(-2, `{}`), good), "revision: Invalid value: -2", "data: Invalid value … field is immutable")
}
