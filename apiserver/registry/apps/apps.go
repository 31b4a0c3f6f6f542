// Package apps is the table of apps/v1: the workloads. Their rules are in
// api/apps; what is left to the apiserver is alike for all of them.
//
// In Kubernetes: pkg/registry/apps.
package apps

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"hyperkube/api/apps/controllerrevision"
	"hyperkube/api/apps/daemonset"
	"hyperkube/api/apps/deployment"
	"hyperkube/api/apps/replicaset"
	"hyperkube/api/apps/statefulset"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/scale"
	"hyperkube/apiserver/registry/typed"
)

// Resources is the table of apps/v1.
func Resources(env *registry.Env) []registry.Resource {
	return []registry.Resource{deployments(env), replicaSets(env), daemonSets(), statefulSets(env), controllerRevisions()}
}

func kind(name string) schema.GroupVersionKind { return appsv1.SchemeGroupVersion.WithKind(name) }

func resource(name string) schema.GroupResource {
	return schema.GroupResource{Group: appsv1.GroupName, Resource: name}
}

func deployments(env *registry.Env) registry.Resource {
	return registry.Resource{
		Name: "deployments", Singular: "deployment", Kind: kind("Deployment"),
		ShortNames: []string{"deploy"}, Categories: []string{"all"},
		New:     func() runtime.Object { return &appsv1.Deployment{} },
		NewList: func() runtime.Object { return &appsv1.DeploymentList{} },
		Default: typed.Default(deployment.SetDefaults),
		Strategy: typed.Strategy[*appsv1.Deployment]{
			OnCreate: func(d *appsv1.Deployment) {
				d.Status, d.Generation = appsv1.DeploymentStatus{}, 1
			},
			OnUpdate: func(d, old *appsv1.Deployment) {
				d.Status = old.Status
				// Annotations count: the controller copies them to its replica sets.
				if !equality.Semantic.DeepEqual(d.Spec, old.Spec) || !equality.Semantic.DeepEqual(d.Annotations, old.Annotations) {
					d.Generation++
				}
			},
			Check:       deployment.Validate,
			CheckUpdate: deployment.ValidateUpdate,
			Warn:        deployment.Warnings,
			WarnUpdate:  typed.WarnIf(typed.GenerationRose, deployment.WarningsOnUpdate),
		},
		Resets: map[string][]string{"status": {"metadata.labels"}},
		StatusStrategy: typed.Strategy[*appsv1.Deployment]{
			OnUpdate:    func(d, old *appsv1.Deployment) { d.Spec, d.Labels = old.Spec, old.Labels },
			CheckUpdate: deployment.ValidateStatusUpdate,
		},
		Table: deploymentTable,
		Subresources: map[string]registry.Subresource{"scale": scale.Of[*appsv1.Deployment]{
			Resource: resource("deployments"),
			Read: func(d *appsv1.Deployment) (int32, int32, string) {
				return ptr.Deref(d.Spec.Replicas, 0), d.Status.Replicas, scale.Selector(d.Spec.Selector)
			},
			Set: func(d *appsv1.Deployment, n int32) { d.Spec.Replicas = &n },
		}.Subresource(env)},
	}
}

func replicaSets(env *registry.Env) registry.Resource {
	return registry.Resource{
		Name: "replicasets", Singular: "replicaset", Kind: kind("ReplicaSet"),
		ShortNames: []string{"rs"}, Categories: []string{"all"},
		New:     func() runtime.Object { return &appsv1.ReplicaSet{} },
		NewList: func() runtime.Object { return &appsv1.ReplicaSetList{} },
		Default: typed.Default(replicaset.SetDefaults),
		Strategy: typed.Strategy[*appsv1.ReplicaSet]{
			OnCreate: func(rs *appsv1.ReplicaSet) {
				rs.Status, rs.Generation = appsv1.ReplicaSetStatus{}, 1
			},
			OnUpdate: func(rs, old *appsv1.ReplicaSet) {
				rs.Status = old.Status
				typed.Bump(rs, rs.Spec, old.Spec)
			},
			Check:       replicaset.Validate,
			CheckUpdate: replicaset.ValidateUpdate,
			Warn:        replicaset.Warnings,
			WarnUpdate:  typed.WarnIf(typed.GenerationRose, replicaset.WarningsOnUpdate),
		},
		StatusStrategy: typed.Strategy[*appsv1.ReplicaSet]{
			OnUpdate:    func(rs, old *appsv1.ReplicaSet) { rs.Spec = old.Spec },
			CheckUpdate: replicaset.ValidateStatusUpdate,
		},
		Table: replicaSetTable,
		Subresources: map[string]registry.Subresource{"scale": scale.Of[*appsv1.ReplicaSet]{
			Resource: resource("replicasets"),
			Read: func(rs *appsv1.ReplicaSet) (int32, int32, string) {
				return ptr.Deref(rs.Spec.Replicas, 0), rs.Status.Replicas, scale.Selector(rs.Spec.Selector)
			},
			Set: func(rs *appsv1.ReplicaSet, n int32) { rs.Spec.Replicas = &n },
		}.Subresource(env)},
	}
}

func daemonSets() registry.Resource {
	return registry.Resource{
		Name: "daemonsets", Singular: "daemonset", Kind: kind("DaemonSet"),
		ShortNames: []string{"ds"}, Categories: []string{"all"},
		New:     func() runtime.Object { return &appsv1.DaemonSet{} },
		NewList: func() runtime.Object { return &appsv1.DaemonSetList{} },
		Default: typed.Default(daemonset.SetDefaults),
		Strategy: typed.Strategy[*appsv1.DaemonSet]{
			OnCreate: func(ds *appsv1.DaemonSet) {
				ds.Status, ds.Generation = appsv1.DaemonSetStatus{}, 1
				daemonset.SetTemplateGeneration(ds, nil)
			},
			OnUpdate: func(ds, old *appsv1.DaemonSet) {
				ds.Status = old.Status
				daemonset.SetTemplateGeneration(ds, old)
				typed.Bump(ds, ds.Spec, old.Spec)
			},
			Check:       daemonset.Validate,
			CheckUpdate: daemonset.ValidateUpdate,
			Warn:        daemonset.Warnings,
			WarnUpdate:  daemonset.WarningsOnUpdate,
		},
		StatusStrategy: typed.Strategy[*appsv1.DaemonSet]{
			OnUpdate:    func(ds, old *appsv1.DaemonSet) { ds.Spec = old.Spec },
			CheckUpdate: daemonset.ValidateStatusUpdate,
		},
		Table: daemonSetTable,
	}
}

func statefulSets(env *registry.Env) registry.Resource {
	return registry.Resource{
		Name: "statefulsets", Singular: "statefulset", Kind: kind("StatefulSet"),
		ShortNames: []string{"sts"}, Categories: []string{"all"},
		New:     func() runtime.Object { return &appsv1.StatefulSet{} },
		NewList: func() runtime.Object { return &appsv1.StatefulSetList{} },
		Default: typed.Default(statefulset.SetDefaults),
		Strategy: typed.Strategy[*appsv1.StatefulSet]{
			Name: statefulset.ValidateName,
			OnCreate: func(set *appsv1.StatefulSet) {
				set.Status, set.Generation = appsv1.StatefulSetStatus{}, 1
			},
			OnUpdate: func(set, old *appsv1.StatefulSet) {
				set.Status = old.Status
				typed.Bump(set, set.Spec, old.Spec)
			},
			Check:       statefulset.Validate,
			CheckUpdate: statefulset.ValidateUpdate,
			Warn:        statefulset.Warnings,
			WarnUpdate:  statefulset.WarningsOnUpdate,
		},
		StatusStrategy: typed.Strategy[*appsv1.StatefulSet]{
			OnUpdate:    func(set, old *appsv1.StatefulSet) { set.Spec = old.Spec },
			CheckUpdate: statefulset.ValidateStatusUpdate,
		},
		Table: statefulSetTable,
		Subresources: map[string]registry.Subresource{"scale": scale.Of[*appsv1.StatefulSet]{
			Resource: resource("statefulsets"),
			Read: func(set *appsv1.StatefulSet) (int32, int32, string) {
				return ptr.Deref(set.Spec.Replicas, 0), set.Status.Replicas, scale.Selector(set.Spec.Selector)
			},
			Set: func(set *appsv1.StatefulSet, n int32) { set.Spec.Replicas = &n },
		}.Subresource(env)},
	}
}

// controllerRevisions are what a rollback goes back to: their data never changes.
func controllerRevisions() registry.Resource {
	return registry.Resource{
		Name: "controllerrevisions", Singular: "controllerrevision", Kind: kind("ControllerRevision"),
		New:     func() runtime.Object { return &appsv1.ControllerRevision{} },
		NewList: func() runtime.Object { return &appsv1.ControllerRevisionList{} },
		Strategy: typed.Strategy[*appsv1.ControllerRevision]{
			Meta:        registry.MetaRules{NameAgain: true},
			Check:       controllerrevision.Validate,
			CheckUpdate: controllerrevision.ValidateUpdate,
		},
		Table: controllerRevisionTable,
	}
}
