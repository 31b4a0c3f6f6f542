package replicaset

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	appsinformers "k8s.io/client-go/informers/apps/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"hyperkube/controllers/podcontrol"
)

// appsReplicaSets are the ReplicaSets of apps/v1, as they are.
type appsReplicaSets struct {
	client      kubernetes.Interface
	replicaSets appsinformers.ReplicaSetInformer
}

func (s *appsReplicaSets) informer() cache.SharedIndexInformer { return s.replicaSets.Informer() }

func (s *appsReplicaSets) original(rs *appsv1.ReplicaSet) podcontrol.Owner { return rs }

func (s *appsReplicaSets) get(namespace, name string) (*appsv1.ReplicaSet, error) {
	return s.replicaSets.Lister().ReplicaSets(namespace).Get(name)
}

func (s *appsReplicaSets) list(namespace string) ([]*appsv1.ReplicaSet, error) {
	return s.replicaSets.Lister().ReplicaSets(namespace).List(labels.Everything())
}

func (s *appsReplicaSets) getFresh(ctx context.Context, namespace, name string) (*appsv1.ReplicaSet, error) {
	return s.client.AppsV1().ReplicaSets(namespace).Get(ctx, name, metav1.GetOptions{})
}

func (s *appsReplicaSets) updateStatus(ctx context.Context, rs *appsv1.ReplicaSet) (*appsv1.ReplicaSet, error) {
	return s.client.AppsV1().ReplicaSets(rs.Namespace).UpdateStatus(ctx, rs, metav1.UpdateOptions{})
}
