package replicaset

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"

	"hyperkube/client/informers"
	"hyperkube/controllers/podcontrol"
	"hyperkube/reconcile"
)

// NewReplicationManager makes the controller for ReplicationControllers. The kind
// has the word controller in its name, but it is an object; the controller of
// those objects is this one.
func NewReplicationManager(client kubernetes.Interface, factory informers.SharedInformerFactory, recorder record.EventRecorder, options reconcile.Options) (*ReplicaSetController, error) {
	store := &replicationControllers{client, factory.Core().V1().ReplicationControllers()}
	return newBaseController(flavor{"replicationcontroller", corev1.SchemeGroupVersion.WithKind("ReplicationController"), store},
		factory.Core().V1().Pods().Informer(), podcontrol.PodControl{Client: client, Recorder: recorder}, options)
}

// replicationControllers shows ReplicationControllers as ReplicaSets.
type replicationControllers struct {
	client      kubernetes.Interface
	controllers coreinformers.ReplicationControllerInformer
}

func (s *replicationControllers) informer() cache.SharedIndexInformer {
	return s.controllers.Informer()
}

func (s *replicationControllers) original(rs *appsv1.ReplicaSet) podcontrol.Owner {
	return &corev1.ReplicationController{ObjectMeta: rs.ObjectMeta}
}

func (s *replicationControllers) get(namespace, name string) (*appsv1.ReplicaSet, error) {
	rc, err := s.controllers.Lister().ReplicationControllers(namespace).Get(name)
	if err != nil {
		return nil, err
	}
	return asReplicaSet(rc), nil
}

func (s *replicationControllers) list(namespace string) ([]*appsv1.ReplicaSet, error) {
	all, err := s.controllers.Lister().ReplicationControllers(namespace).List(labels.Everything())
	if err != nil {
		return nil, err
	}
	views := make([]*appsv1.ReplicaSet, len(all))
	for i, rc := range all {
		views[i] = asReplicaSet(rc)
	}
	return views, nil
}

func (s *replicationControllers) getFresh(ctx context.Context, namespace, name string) (*appsv1.ReplicaSet, error) {
	rc, err := s.client.CoreV1().ReplicationControllers(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return asReplicaSet(rc), nil
}

func (s *replicationControllers) updateStatus(ctx context.Context, rs *appsv1.ReplicaSet) (*appsv1.ReplicaSet, error) {
	rc := &corev1.ReplicationController{
		ObjectMeta: rs.ObjectMeta,
		Spec: corev1.ReplicationControllerSpec{
			Replicas: rs.Spec.Replicas, MinReadySeconds: rs.Spec.MinReadySeconds, Template: &rs.Spec.Template,
		},
		Status: corev1.ReplicationControllerStatus{
			Replicas:             rs.Status.Replicas,
			FullyLabeledReplicas: rs.Status.FullyLabeledReplicas,
			ReadyReplicas:        rs.Status.ReadyReplicas,
			AvailableReplicas:    rs.Status.AvailableReplicas,
			ObservedGeneration:   rs.Status.ObservedGeneration,
		},
	}
	if rs.Spec.Selector != nil {
		rc.Spec.Selector = rs.Spec.Selector.MatchLabels
	}
	for _, c := range rs.Status.Conditions {
		rc.Status.Conditions = append(rc.Status.Conditions, corev1.ReplicationControllerCondition{
			Type: corev1.ReplicationControllerConditionType(c.Type), Status: c.Status,
			LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	updated, err := s.client.CoreV1().ReplicationControllers(rc.Namespace).UpdateStatus(ctx, rc, metav1.UpdateOptions{})
	if err != nil {
		return nil, err
	}
	return asReplicaSet(updated), nil
}

// asReplicaSet shares maps and template with rc, which belongs to the cache: read only.
func asReplicaSet(rc *corev1.ReplicationController) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{
		ObjectMeta: rc.ObjectMeta,
		Spec: appsv1.ReplicaSetSpec{
			Replicas: ptr.To(ptr.Deref(rc.Spec.Replicas, 1)), MinReadySeconds: rc.Spec.MinReadySeconds,
			Selector: &metav1.LabelSelector{MatchLabels: rc.Spec.Selector},
		},
		Status: appsv1.ReplicaSetStatus{
			Replicas:             rc.Status.Replicas,
			FullyLabeledReplicas: rc.Status.FullyLabeledReplicas,
			ReadyReplicas:        rc.Status.ReadyReplicas,
			AvailableReplicas:    rc.Status.AvailableReplicas,
			ObservedGeneration:   rc.Status.ObservedGeneration,
		},
	}
	if rc.Spec.Template != nil {
		rs.Spec.Template = *rc.Spec.Template
	}
	for _, c := range rc.Status.Conditions {
		rs.Status.Conditions = append(rs.Status.Conditions, appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetConditionType(c.Type), Status: c.Status,
			LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	return rs
}
