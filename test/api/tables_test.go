package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/certificates"
	"hyperkube/apiserver/registry/resource"
	"hyperkube/apiserver/registry/storagemigration"
)

// What kubectl get shows of the young kinds is what upstream's printers show (pkg/printers/internalversion).
func TestColumns(t *testing.T) {
	tables := map[string]*registry.Table{}
	for _, list := range [][]registry.Resource{certificates.Resources(&registry.Env{}), resource.Resources(&registry.Env{}), storagemigration.Resources(&registry.Env{})} {
		for _, r := range list {
			tables[r.Name] = r.Table
		}
	}
	hour := metav1.NewTime(time.Now().Add(-time.Hour - time.Minute))
	meta := metav1.ObjectMeta{Name: "a", CreationTimestamp: hour}
	gone := meta
	gone.DeletionTimestamp = &hour
	allocation := &resourcev1.AllocationResult{}
	users := []resourcev1.ResourceClaimConsumerReference{{Resource: "pods"}}
	is := func(kind string, status metav1.ConditionStatus) []metav1.Condition {
		return []metav1.Condition{{Type: kind, Status: status}}
	}
	migrated := func(c []metav1.Condition) *storagemigrationv1.StorageVersionMigration {
		return &storagemigrationv1.StorageVersionMigration{ObjectMeta: meta, Spec: storagemigrationv1.StorageVersionMigrationSpec{Resource: metav1.GroupResource{Group: "apps", Resource: "deployments"}},
			Status: storagemigrationv1.StorageVersionMigrationStatus{Conditions: c}}
	}
	asked := func(c []metav1.Condition) *certificatesv1.PodCertificateRequest {
		return &certificatesv1.PodCertificateRequest{ObjectMeta: meta, Spec: certificatesv1.PodCertificateRequestSpec{PodName: "p", ServiceAccountName: "s", NodeName: "n", SignerName: "x.y/z", UnverifiedUserAnnotations: map[string]string{"x.y/k": "v"}},
			Status: certificatesv1.PodCertificateRequestStatus{Conditions: c}}
	}
	claim := func(m metav1.ObjectMeta, s resourcev1.ResourceClaimStatus) *resourcev1.ResourceClaim {
		return &resourcev1.ResourceClaim{ObjectMeta: m, Status: s}
	}
	const requests, migrations, claims = "Name PodName ServiceAccountName NodeName SignerName State UnverifiedUserAnnotations", "Name Resource Status", "Name State Age"
	for _, test := range []struct {
		resource, columns string
		obj               runtime.Object
		cells             string
	}{
		{"clustertrustbundles", "Name SignerName", &certificatesv1.ClusterTrustBundle{ObjectMeta: meta}, "a <none>"},
		{"podcertificaterequests", requests, asked(nil), "a p s n x.y/z Pending x.y/k=v"},
		{"podcertificaterequests", requests, asked(is("Issued", "True")), "a p s n x.y/z Issued x.y/k=v"},
		{"podcertificaterequests", requests, asked(is("Other", "True")), "a p s n x.y/z Pending x.y/k=v"},
		{"storageversionmigrations", migrations, migrated(nil), "a deployments.apps Unknown"},
		{"storageversionmigrations", migrations, migrated(append(is("Running", "True"), is("Failed", "False")...)), "a deployments.apps Running"},
		{"storageversionmigrations", migrations, migrated(append(is("Running", "True"), is("Succeeded", "True")...)), "a deployments.apps Succeeded"},
		{"resourceclaims", claims, claim(meta, resourcev1.ResourceClaimStatus{}), "a pending 61m"},
		{"resourceclaims", claims, claim(meta, resourcev1.ResourceClaimStatus{Allocation: allocation, ReservedFor: users}), "a allocated,reserved 61m"},
		{"resourceclaims", claims, claim(gone, resourcev1.ResourceClaimStatus{ReservedFor: users}), "a deleted 61m"},
		{"resourceclaims", claims, claim(gone, resourcev1.ResourceClaimStatus{Allocation: allocation}), "a deleted,allocated 61m"},
		{"resourceslices", "Name Node Driver Pool Age", &resourcev1.ResourceSlice{ObjectMeta: meta, Spec: resourcev1.ResourceSliceSpec{Driver: "d", NodeName: ptr.To("n"), Pool: resourcev1.ResourcePool{Name: "p"}}}, "a n d p 61m"},
		{"resourceslices", "Name Node Driver Pool Age", &resourcev1.ResourceSlice{ObjectMeta: meta, Spec: resourcev1.ResourceSliceSpec{Driver: "d", Pool: resourcev1.ResourcePool{Name: "p"}}}, "a  d p 61m"},
		{"devicetaintrules", "Name Key Value Effect TimeAdded Age", &resourcev1.DeviceTaintRule{ObjectMeta: meta, Spec: resourcev1.DeviceTaintRuleSpec{Taint: resourcev1.DeviceTaint{Key: "k", Value: "v", Effect: "None", TimeAdded: &hour}}}, "a k v None 61m 61m"},
		{"devicetaintrules", "Name Key Value Effect TimeAdded Age", &resourcev1.DeviceTaintRule{ObjectMeta: meta, Spec: resourcev1.DeviceTaintRuleSpec{Taint: resourcev1.DeviceTaint{Key: "k", Effect: "NoExecute"}}}, "a k  NoExecute  61m"},
		{"deviceclasses", "Name Age", &resourcev1.DeviceClass{ObjectMeta: meta}, "a 61m"},
	} {
		table := tables[test.resource]
		var columns, cells []string
		for _, c := range table.Columns {
			columns = append(columns, c.Name)
		}
		for _, c := range table.Cells(test.obj) {
			cells = append(cells, fmt.Sprint(c))
		}
		if got := strings.Join(columns, " "); got != test.columns {
			t.Errorf("%s: columns %q, want %q", test.resource, got, test.columns)
		}
		if got := strings.Join(cells, " "); got != test.cells {
			t.Errorf("%s: %q, want %q", test.resource, got, test.cells)
		}
	}
}
