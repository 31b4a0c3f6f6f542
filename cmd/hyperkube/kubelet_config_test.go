package main

import (
	"crypto/tls"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hyperkube/component"
	"hyperkube/kubelet"
)

// everyField sets each field of a KubeletConfiguration that acts here, to what is not its default.
const everyField = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
port: 10255
tlsCertFile: /tls.crt
tlsPrivateKeyFile: /tls.key
tlsMinVersion: VersionTLS13
tlsCipherSuites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]
authentication: {anonymous: {enabled: true}, x509: {clientCAFile: /ca.crt}, webhook: {enabled: false, cacheTTL: 1s}}
authorization: {mode: AlwaysAllow, webhook: {cacheAuthorizedTTL: 2s, cacheUnauthorizedTTL: 3s}}
rotateCertificates: true
serverTLSBootstrap: true
staticPodPath: /manifests
staticPodURL: http://pods.example
fileCheckFrequency: 4s
clusterDNS: [10.1.1.1]
clusterDomain: example.local
resolvConf: /resolv.conf
podCIDR: 10.2.0.0/24
maxPods: 20
podPidsLimit: 100
userNamespaces: {idsPerPod: 131072}
registerWithTaints: [{key: a, effect: NoSchedule}]
nodeStatusUpdateFrequency: 5s
nodeStatusReportFrequency: 6s
nodeLeaseDurationSeconds: 7
kubeReserved: {cpu: 100m}
enforceNodeAllocatable: [none]
systemReserved: {memory: 1Mi}
evictionHard: {memory.available: 1Mi}
evictionSoft: {memory.available: 2Mi}
evictionSoftGracePeriod: {memory.available: 8s}
evictionMinimumReclaim: {memory.available: 3Mi}
evictionPressureTransitionPeriod: 9s
evictionMaxPodGracePeriod: 10
imageMinimumGCAge: 11s
imageMaximumGCAge: 12s
imageGCHighThresholdPercent: 60
imageGCLowThresholdPercent: 50
containerLogMaxSize: 1Mi
containerLogMaxFiles: 3
registryPullQPS: 13
registryBurst: 14
serializeImagePulls: false
maxParallelImagePulls: 15
eventRecordQPS: 16
eventBurst: 17
seccompDefault: true
allowedUnsafeSysctls: [net.core.somaxconn]
failSwapOn: true
singleProcessOOMKill: true
crashLoopBackOff: {maxContainerRestartPeriod: 18s}
shutdownGracePeriod: 19s
shutdownGracePeriodCriticalPods: 1s
containerRuntimeEndpoint: unix:///run/cri.sock
contentType: application/json
`

// fromFile is the kubelet's options after a configuration file, and before anything is looked for on the machine.
func fromFile(t *testing.T, text string, args ...string) *kubeletOptions {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubelet.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o := newKubeletOptions().(*kubeletOptions)
	if err := component.Parse("kubelet", o, append(args, "--config="+path), io.Discard); err != nil {
		t.Fatal(err)
	}
	if err := o.File.apply(); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestConfigurationFileOfTheKubelet(t *testing.T) {
	o := fromFile(t, everyField)
	config := kubelet.Config{ClusterDNS: []string{"10.0.0.10"}, ClusterDomain: "cluster.local"}
	o.Tuning.tune(&config)
	if config.TLSMinVersion != tls.VersionTLS13 || !slices.Equal(config.TLSCipherSuites, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}) {
		t.Errorf("TLS %x, %x", config.TLSMinVersion, config.TLSCipherSuites)
	}
	if config.Address != "127.0.0.1" || config.CertFile != "/tls.crt" || config.ClientCAFile != "/ca.crt" || !config.Access.Anonymous || !config.Access.NoTokens || !config.Access.AlwaysAllow ||
		config.Access.TokenTTL != time.Second || config.Access.AllowedTTL != 2*time.Second || config.Access.DeniedTTL != 3*time.Second {
		t.Errorf("the server: %+v", config)
	}
	if config.ClusterDNS[0] != "10.1.1.1" || config.ClusterDomain != "example.local" || config.Pulls.AtATime != 15 || config.Pulls.QPS != 13 || config.Pulls.Burst != 14 || !config.SeccompDefault || !config.SingleProcessOOMKill ||
		config.NodeStatusReportFrequency != 6*time.Second || config.NodeLeaseDurationSeconds != 7 || config.UserNamespaceIDs != 131072 || config.MaxContainerRestartPeriod != 18*time.Second || config.EventQPS != 16 {
		t.Errorf("the rest: %+v", config)
	}
	if o.Port != 10255 || o.MaxPods != 20 || o.PodPids != 100 || o.ManifestPath != "/manifests" || o.Taints[0] != "a:NoSchedule" || o.RuntimeEndpoint != "unix:///run/cri.sock" || o.ContentType != "application/json" {
		t.Errorf("the options: %+v", o)
	}
	room, err := o.Room.room()
	if err != nil || room.Images.HighThresholdPercent != 60 || room.Thresholds.Hard["memory.available"] != "1Mi" || room.ContainerLogMaxSize != 1<<20 || room.KubeReserved.Cpu().MilliValue() != 100 || !room.NoEnforcement {
		t.Errorf("%v, the room: %+v", err, room)
	}
	if periods, err := o.Shutdown.gracePeriods(); err != nil || len(periods) != 2 || periods[0].Period != 18*time.Second {
		t.Errorf("shutdown: %v, %v", periods, err)
	}
}

// A flag goes before the file, whatever it says.
func TestFlagsGoBeforeTheFile(t *testing.T) {
	o := fromFile(t, everyField, "--max-pods=110", "--eviction-hard=", "--seccomp-default=false")
	if o.MaxPods != 110 || o.Tuning.seccompDefault {
		t.Errorf("%d pods, seccomp by default %v", o.MaxPods, o.Tuning.seccompDefault)
	}
	if room, err := o.Room.room(); err != nil || len(room.Thresholds.Hard) != 0 {
		t.Errorf("%v, hard thresholds %v", err, room.Thresholds.Hard)
	}
}

// Without a word in the file the defaults are upstream's.
func TestDefaultsOfTheConfigurationFile(t *testing.T) {
	o := fromFile(t, "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n")
	if !o.Tuning.serialize || o.Tuning.qps != 5 || o.Tuning.burst != 10 || o.Tuning.eventQPS != 50 || o.Room.imageHigh != 85 || o.Tuning.reportFrequency != 5*time.Minute || o.Tuning.tokenTTL != 2*time.Minute {
		t.Errorf("%+v %+v", o.Tuning, o.Room)
	}
	if err := o.Tuning.validate(); err != nil {
		t.Error(err)
	}
}

func TestSwapIsRefusedOnRequest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "swaps")
	if err := os.WriteFile(path, []byte("Filename Type Size Used Priority\n/swapfile file 1 0 -2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&tuningOptions{}).checkSwap(path); err != nil {
		t.Error(err)
	}
	if err := (&tuningOptions{failSwapOn: true}).checkSwap(path); err == nil || !strings.Contains(err.Error(), "running with swap on is not supported") {
		t.Error(err)
	}
	if err := (&tuningOptions{failSwapOn: true}).checkSwap(path + "none"); err != nil {
		t.Error(err)
	}
}

func TestWrongTuning(t *testing.T) {
	for _, arg := range []string{"--tls-min-version=1.2", "--tls-cipher-suites=ROT13", "--authorization-mode=ABAC", "--address=here", "--cluster-dns=dns", "--tls-cert-file=/x", "--registry-qps=-1",
		"--max-container-restart-period=1h"} {
		o := newKubeletOptions().(*kubeletOptions)
		if err := component.Parse("kubelet", o, []string{arg}, io.Discard); err != nil {
			t.Fatal(err)
		}
		flag, _, _ := strings.Cut(arg, "=")
		if err := o.Tuning.validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", arg, err)
		}
	}
}
