package core

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
	"hyperkube/apiserver/storage"
)

// componentStatuses answers `kubectl get cs`, which every old book begins with. What it says is found out when it is
// asked, of what this process knows: whether the store answers, and whether scheduler and controller manager renew their Leases.
// Upstream asks these at ports of its own host instead, and says Unhealthy of what listens elsewhere.
func componentStatuses(env *registry.Env) registry.Resource {
	return registry.Resource{
		Name: "componentstatuses", Singular: "componentstatus", Kind: v1.SchemeGroupVersion.WithKind("ComponentStatus"),
		ShortNames: []string{"cs"}, ClusterScoped: true,
		Without:  []string{"create", "delete", "deletecollection", "patch", "update", "watch"},
		New:      func() runtime.Object { return &v1.ComponentStatus{} },
		NewList:  func() runtime.Object { return &v1.ComponentStatusList{} },
		Computed: func() storage.Interface { return componentStorage{env} },
		Table: typed.Table(func(c *v1.ComponentStatus) []any {
			status, message, err := "Unknown", "", ""
			for _, condition := range c.Conditions {
				if condition.Type != v1.ComponentHealthy {
					continue
				}
				message, err, status = condition.Message, condition.Error, "Unhealthy"
				if condition.Status == v1.ConditionTrue {
					status = "Healthy"
				}
			}
			return []any{c.Name, status, message, err}
		},
			column.Name(),
			column.Text("Status", "Status of the component conditions"),
			column.Text("Message", "Message of the component conditions"),
			column.Text("Error", "Error of the component conditions"),
		),
	}
}

// componentStorage computes what others store.
type componentStorage struct{ env *registry.Env }

var componentResource = schema.GroupResource{Resource: "componentstatuses"}

func (s componentStorage) Get(ctx context.Context, key, _ string) (*storage.Object, error) {
	for _, c := range s.components(ctx) {
		if c.Name == key {
			return storage.NewObject(key, c), nil
		}
	}
	return nil, errors.NewNotFound(componentResource, key)
}

func (s componentStorage) List(ctx context.Context, _ string, opts storage.ListOptions) (*storage.List, error) {
	list := &storage.List{}
	for _, c := range s.components(ctx) {
		p := opts.Predicate
		if (p.Label == nil || p.Label.Matches(labels.Set(c.Labels))) && (p.Field == nil || p.Field.Matches(fields.Set{"metadata.name": c.Name})) {
			list.Items = append(list.Items, storage.NewObject(c.Name, c))
		}
	}
	return list, nil
}

// components are etcd-0, controller-manager and scheduler, as ever.
func (s componentStorage) components(ctx context.Context) []*v1.ComponentStatus {
	_, err := s.env.Store(schema.GroupResource{Resource: "namespaces"}).GetObject(ctx, "", metav1.NamespaceDefault)
	if errors.IsNotFound(err) {
		err = nil // the store has answered
	}
	return []*v1.ComponentStatus{
		s.elected(ctx, "controller-manager", "kube-controller-manager"),
		s.elected(ctx, "scheduler", "kube-scheduler"),
		component("etcd-0", err),
	}
}

// elected is a component that holds a Lease of kube-system while it runs.
func (s componentStorage) elected(ctx context.Context, name, lease string) *v1.ComponentStatus {
	obj, err := s.env.Store(schema.GroupResource{Group: coordinationv1.GroupName, Resource: "leases"}).GetCached(ctx, metav1.NamespaceSystem, lease)
	if errors.IsNotFound(err) {
		return component(name, fmt.Errorf("no lease %s/%s: it has not started, or runs without leader election", metav1.NamespaceSystem, lease))
	}
	if err != nil {
		return component(name, err)
	}
	spec := obj.(*coordinationv1.Lease).Spec
	if spec.RenewTime == nil || ptr.Deref(spec.HolderIdentity, "") == "" {
		return component(name, fmt.Errorf("nobody holds the lease %s/%s", metav1.NamespaceSystem, lease))
	}
	end := spec.RenewTime.Add(time.Duration(ptr.Deref(spec.LeaseDurationSeconds, 0)) * time.Second)
	if end.Before(s.env.Clock.Now()) {
		return component(name, fmt.Errorf("the lease %s/%s was last renewed at %s", metav1.NamespaceSystem, lease, spec.RenewTime.Format(time.RFC3339)))
	}
	return component(name, nil)
}

func component(name string, err error) *v1.ComponentStatus {
	condition := v1.ComponentCondition{Type: v1.ComponentHealthy, Status: v1.ConditionTrue, Message: "ok"}
	if err != nil {
		condition.Status, condition.Message = v1.ConditionFalse, err.Error()
	}
	return &v1.ComponentStatus{ObjectMeta: metav1.ObjectMeta{Name: name}, Conditions: []v1.ComponentCondition{condition}}
}

func notServed(verb string) error { return errors.NewMethodNotSupported(componentResource, verb) }

func (componentStorage) Watch(context.Context, string, storage.WatchOptions) (storage.Watcher, error) {
	return nil, notServed("watch")
}

func (componentStorage) Create(context.Context, string, runtime.Object, int64) (*storage.Object, error) {
	return nil, notServed("create")
}

func (componentStorage) GuaranteedUpdate(context.Context, string, *storage.Preconditions, storage.UpdateFunc) (*storage.Object, error) {
	return nil, notServed("update")
}

func (componentStorage) Delete(context.Context, string, *storage.Preconditions, func(*storage.Object) error) (*storage.Object, error) {
	return nil, notServed("delete")
}
