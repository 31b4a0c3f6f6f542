package storageversionmigration

import (
	"testing"

	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hyperkube/api/rule/ruletest"
)

func migration(version string, conditions ...string) *storagemigrationv1.StorageVersionMigration {
	m := &storagemigrationv1.StorageVersionMigration{Spec: storagemigrationv1.StorageVersionMigrationSpec{Resource: metav1.GroupResource{Group: "apps", Resource: "deployments"}}}
	m.Status.ResourceVersion = version
	for _, c := range conditions {
		m.Status.Conditions = append(m.Status.Conditions, metav1.Condition{Type: c, Status: metav1.ConditionTrue, Reason: "R", LastTransitionTime: metav1.Now()})
	}
	return m
}

func TestMigration(t *testing.T) {
	ruletest.Expect(t, Validate(migration("")))
	bad := migration("")
	bad.Spec.Resource = metav1.GroupResource{Group: "a_"}
	ruletest.Expect(t, ValidateUpdate(bad, migration("")), "spec.resource.resource: Required value: resource is required to be set", "spec.resource.group: Invalid value", "spec: Invalid value … field is immutable")
}

func TestMigrationStatus(t *testing.T) {
	for _, test := range []struct {
		name   string
		m, old *storagemigrationv1.StorageVersionMigration
		want   []string
	}{
		{"runs", migration("5", "Running"), migration("5"), nil},
		{"no number", migration("a"), migration(""), []string{"status.resourceVersion: Invalid value"}},
		{"another version", migration("6"), migration("5"), []string{"status.resourceVersion: Invalid value: \"6\": field is immutable"}},
		{"two ends", migration("5", "Succeeded", "Failed"), migration("5"), []string{"status.conditions: Invalid value … Both success and failed conditions cannot be true at the same time"}},
		{"a condition before a version", migration("", "Other"), migration(""), nil},
		{"taken back", migration("5"), migration("5", "Succeeded"), []string{"status.conditions: Invalid value … Success condition cannot be set to false once it is true"}},
	} {
		t.Run(test.name, func(t *testing.T) { ruletest.Expect(t, ValidateStatusUpdate(test.m, test.old), test.want...) })
	}
}
