package kubelet

import (
	"encoding/json"
	"errors"
	"testing"

	"k8s.io/client-go/kubernetes/fake"
	configv1beta1 "k8s.io/kubelet/config/v1beta1"
	kubejson "sigs.k8s.io/json"

	"hyperkube/kubelet/images"
)

// Who reads /configz reads a KubeletConfiguration: each field has upstream's name and type.
func TestConfigzIsAKubeletConfiguration(t *testing.T) {
	kl, err := New(Config{NodeName: "n", RootDir: t.TempDir(), ContainerRuntime: "simulated", Client: fake.NewClientset(), SeccompDefault: true, Pulls: images.Limits{AtATime: 3, QPS: 5, Burst: 10},
		TLSCipherSuites: []uint16{0xc02b}, Room: Room{KubeReserved: quantities("cpu", "100m"), NoEnforcement: true}})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(kl.Configz())
	if err != nil {
		t.Fatal(err)
	}
	c := configv1beta1.KubeletConfiguration{}
	unknown, err := kubejson.UnmarshalStrict(data, &c)
	if err = errors.Join(append(unknown, err)...); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	if c.MaxPods != 110 || !*c.SeccompDefault || *c.MaxParallelImagePulls != 3 || *c.SerializeImagePulls || c.KubeReserved["cpu"] != "100m" || c.EnforceNodeAllocatable[0] != "none" ||
		c.TLSMinVersion != "VersionTLS12" || c.TLSCipherSuites[0] != "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" || c.NodeLeaseDurationSeconds != 40 || c.CrashLoopBackOff.MaxContainerRestartPeriod.Minutes() != 5 {
		t.Errorf("%s", data)
	}
}
