package pod

import (
	"reflect"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// Fields behind gates that v1.37 has off are not kept, wherever in a spec they are; what stands beside them is.
func TestDisabledFieldsAreDropped(t *testing.T) {
	user, mode := ptr.To(int64(1000)), ptr.To(int32(0o400))
	spec := func(user *int64, emptyDir *int32, options []string, tls *v1.GRPCProbeMode) *v1.PodSpec {
		key, file := v1.KeyToPath{Key: "k", Path: "p", Mode: mode, User: user}, v1.DownwardAPIVolumeFile{Path: "f", Mode: mode, User: user}
		probe := &v1.Probe{ProbeHandler: v1.ProbeHandler{GRPC: &v1.GRPCAction{Port: 1, Service: ptr.To(""), Mode: tls}}}
		return &v1.PodSpec{
			Volumes: []v1.Volume{
				{VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{Medium: "Memory", Mode: emptyDir}}},
				{VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{DefaultMode: mode, DefaultUser: user, Items: []v1.KeyToPath{key}}}},
				{VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{DefaultMode: mode, DefaultUser: user, Items: []v1.KeyToPath{key}}}},
				{VolumeSource: v1.VolumeSource{DownwardAPI: &v1.DownwardAPIVolumeSource{DefaultMode: mode, DefaultUser: user, Items: []v1.DownwardAPIVolumeFile{file}}}},
				{VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{DefaultMode: mode, DefaultUser: user, Sources: []v1.VolumeProjection{
					{Secret: &v1.SecretProjection{Items: []v1.KeyToPath{key}}},
					{ConfigMap: &v1.ConfigMapProjection{Items: []v1.KeyToPath{key}}},
					{DownwardAPI: &v1.DownwardAPIProjection{Items: []v1.DownwardAPIVolumeFile{file}}},
					{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "t", User: user}},
					{ClusterTrustBundle: &v1.ClusterTrustBundleProjection{Path: "b", User: user}},
					{PodCertificate: &v1.PodCertificateProjection{KeyType: "ED25519", User: user}},
				}}}},
			},
			InitContainers: []v1.Container{{VolumeMounts: []v1.VolumeMount{{Name: "v", BindMountOptions: options}}}},
			Containers:     []v1.Container{{LivenessProbe: probe.DeepCopy(), ReadinessProbe: probe.DeepCopy(), StartupProbe: probe.DeepCopy()}},
		}
	}
	got, want := spec(user, mode, []string{"noexec"}, ptr.To(v1.GRPCProbeMode("TLS"))), spec(nil, nil, nil, nil)
	if dropDisabledFields(got); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}
