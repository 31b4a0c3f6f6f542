package registry

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// OwnManager is who owns the fields of what the apiserver writes on its own account.
const OwnManager = "kube-apiserver"

// Own is such a write: nobody's rights or quota are asked for it.
func Own() Write { return Write{Unadmitted: true, Manager: OwnManager} }

// OwnStatus is one to the status.
func (s *Store) OwnStatus() Write {
	return Write{Unadmitted: true, Manager: OwnManager, Subresource: "status", View: s.StatusStrategy}
}

// ApplyOwnStatus is a server-side apply of the apiserver itself: manager says what it knows of the status of a cluster-scoped object,
// and all else there stays. status points to the kind's status, of the stored version, or to an apply configuration of it.
func (s *Store) ApplyOwnStatus(ctx context.Context, name, manager string, status any) error {
	known, err := runtime.DefaultUnstructuredConverter.ToUnstructured(status)
	if err != nil {
		return err
	}
	wanted := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": name}, "status": known}}
	wanted.SetGroupVersionKind(s.Kind)
	fields := s.FieldManager("status", s.Kind)
	_, err = s.GuaranteedUpdate(ctx, metav1.NamespaceNone, name, false, func(current runtime.Object) (runtime.Object, error) {
		current.GetObjectKind().SetGroupVersionKind(s.Kind)
		return fields.Apply(current, wanted, manager, true)
	})
	return err
}
