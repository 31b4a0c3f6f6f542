// Package storagemigration is the table of storagemigration.k8s.io/v1: migrations are kept; who carries them out is a controller.
//
// In Kubernetes: pkg/registry/storagemigration.
package storagemigration

import (
	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hyperkube/api/storagemigration/storageversionmigration"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

// Resources is the table of storagemigration.k8s.io/v1.
func Resources(env *registry.Env) []registry.Resource {
	type object = storagemigrationv1.StorageVersionMigration
	return []registry.Resource{{
		Name: "storageversionmigrations", Singular: "storageversionmigration", ClusterScoped: true,
		Kind:    storagemigrationv1.SchemeGroupVersion.WithKind("StorageVersionMigration"),
		New:     func() runtime.Object { return &object{} },
		NewList: func() runtime.Object { return &storagemigrationv1.StorageVersionMigrationList{} },
		Strategy: typed.Strategy[*object]{
			Meta: registry.MetaRules{NameAgain: true}, Conditional: true,
			OnCreate:    func(m *object) { m.Status = storagemigrationv1.StorageVersionMigrationStatus{} },
			OnUpdate:    func(m, old *object) { m.Status = old.Status },
			Check:       storageversionmigration.Validate,
			CheckUpdate: storageversionmigration.ValidateUpdate,
		},
		Resets: map[string][]string{"status": {"metadata"}},
		StatusStrategy: typed.Strategy[*object]{
			OnUpdate: func(m, old *object) {
				m.Spec = old.Spec
				metav1.ResetObjectMetaForStatus(m, old)
			},
			CheckUpdate: storageversionmigration.ValidateStatusUpdate,
		},
		Table: typed.Table(func(m *object) []any { return []any{m.Name, m.Spec.Resource.String(), state(m)} },
			column.Text("Name", metav1.ObjectMeta{}.SwaggerDoc()["name"]),
			column.Text("Resource", "GroupResource to migrate"),
			column.Text("Status", "Status of the migration"),
		),
	}}
}

// state is the last of the conditions that hold.
func state(m *storagemigrationv1.StorageVersionMigration) string {
	last := "Unknown"
	for _, c := range m.Status.Conditions {
		if c.Status != metav1.ConditionTrue {
			continue
		}
		switch storagemigrationv1.MigrationConditionType(c.Type) {
		case storagemigrationv1.MigrationRunning, storagemigrationv1.MigrationFailed, storagemigrationv1.MigrationSucceeded:
			last = c.Type
		}
	}
	return last
}
