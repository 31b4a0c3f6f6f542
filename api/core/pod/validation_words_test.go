package pod

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule/ruletest"
)

// The paths and words are v1.37.1's, its slips too.
func TestValidateAnnotations(t *testing.T) {
	set := func(key, value string) func(*v1.Pod) {
		return func(p *v1.Pod) { p.Annotations = map[string]string{key: value} }
	}
	at := "metadata.annotations["
	runCreate(t, map[string]podTest{
		"deletion cost":       {set(v1.PodDeletionCost, "-5"), nil},
		"a cost with a plus":  {set(v1.PodDeletionCost, "+5"), []string{at + `controller.kubernetes.io/pod-deletion-cost]: Invalid value: "+5": must be a 32bit integer`}},
		"a cost of 33 bits":   {set(v1.PodDeletionCost, "4294967296"), []string{at + "controller.kubernetes.io/pod-deletion-cost]: Invalid value"}},
		"tolerations":         {set(v1.TolerationsAnnotationKey, `[{"key":"a","operator":"Maybe"}]`), []string{"metadata.annotations.scheduler.alpha.kubernetes.io/tolerations[0].operator: Unsupported value"}},
		"no tolerations":      {set(v1.TolerationsAnnotationKey, `{`), []string{"metadata.annotations: Invalid value"}},
		"seccomp":             {set(seccompContainer+"web", "localhost/../a"), []string{"metadata.annotations.container.seccomp.security.alpha.kubernetes.io/web: Invalid value … must not contain '..'"}},
		"AppArmor of nobody":  {set(appArmor+"db", "unconfined"), []string{at + `container.apparmor.security.beta.kubernetes.io/db]: Invalid value: "db": container not found`}},
		"AppArmor, no prefix": {set(appArmor+"web", "x"), []string{at + `container.apparmor.security.beta.kubernetes.io/web]: Invalid value: "x": invalid AppArmor profile name: "x"`}},
		"two of a mind": {func(p *v1.Pod) {
			set(appArmor+"web", "localhost/p")(p)
			p.Spec.SecurityContext.AppArmorProfile = &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeLocalhost, LocalhostProfile: ptr.To("p")}
		}, nil},
		"two minds": {func(p *v1.Pod) {
			set(appArmor+"web", "localhost/p")(p)
			p.Spec.SecurityContext.AppArmorProfile = &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeRuntimeDefault}
		}, []string{"spec.containers[0].securityContext.appArmorProfile.type: Forbidden: apparmor type in annotation and field must match"}},
	})
}

func TestValidateWindows(t *testing.T) {
	windows := func(change func(*v1.Pod)) func(*v1.Pod) {
		return func(p *v1.Pod) {
			p.Spec.OS = &v1.PodOS{Name: v1.Windows}
			change(p)
		}
	}
	user := func(name string) func(*v1.Pod) {
		return windows(func(p *v1.Pod) {
			first(p).SecurityContext = &v1.SecurityContext{WindowsOptions: &v1.WindowsSecurityContextOptions{RunAsUserName: &name}}
		})
	}
	at := "spec.containers[0].securityContext.windowsOptions.runAsUserName: Invalid value … "
	runCreate(t, map[string]podTest{
		"user":           {user(`DOMAIN\user`), nil},
		"no user":        {user(""), []string{at + "cannot be an empty string"}},
		"two domains":    {user(`a\b\c`), []string{at + "more than one backslash"}},
		"only dots":      {user("..."), []string{at + "cannot contain only periods or spaces"}},
		"a mark":         {user("a@b"), []string{at + "cannot contain the following characters"}},
		"no such system": {func(p *v1.Pod) { p.Spec.OS = &v1.PodOS{Name: "plan9"} }, []string{`spec.os: Unsupported value: "plan9": supported values: "linux", "windows"`}},
		"Linux's own":    {windows(func(p *v1.Pod) { p.Spec.SecurityContext.RunAsUser = ptr.To[int64](1) }), []string{"spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod"}},
		"Windows's own": {func(p *v1.Pod) {
			p.Spec.OS = &v1.PodOS{Name: v1.Linux}
			p.Spec.SecurityContext.WindowsOptions = &v1.WindowsSecurityContextOptions{}
		}, []string{"spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod"}},
		"in no network of the host": {windows(func(p *v1.Pod) {
			p.Spec.SecurityContext.WindowsOptions = &v1.WindowsSecurityContextOptions{HostProcess: ptr.To(true)}
		}), []string{"spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers"}},
	})
}

func TestValidateVolumeSources(t *testing.T) {
	volume := func(s v1.VolumeSource) func(*v1.Pod) {
		return func(p *v1.Pod) { p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: s}} }
	}
	two := volume(v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}, DownwardAPI: &v1.DownwardAPIVolumeSource{}})
	runCreate(t, map[string]podTest{
		"two kinds":      {two, []string{"spec.volumes[0].downwarAPI: Forbidden: may not specify more than 1 volume type"}},
		"GCE":            {volume(v1.VolumeSource{GCEPersistentDisk: &v1.GCEPersistentDiskVolumeSource{Partition: 256}}), []string{"spec.volumes[0].persistentDisk.pdName: Required value", "spec.volumes[0].persistentDisk.partition: Invalid value: 256: must be between 1 and 255, inclusive"}},
		"iSCSI":          {volume(v1.VolumeSource{ISCSI: &v1.ISCSIVolumeSource{TargetPortal: "p", IQN: "iqn.2026-01.com.example:a"}}), nil},
		"iSCSI, name":    {volume(v1.VolumeSource{ISCSI: &v1.ISCSIVolumeSource{TargetPortal: "p", IQN: "disk"}}), []string{"spec.volumes[0].iscsi.iqn: Invalid value … must be valid format starting with iqn, eui, or naa"}},
		"FC":             {volume(v1.VolumeSource{FC: &v1.FCVolumeSource{TargetWWNs: []string{"w"}}}), []string{"spec.volumes[0].fc.lun: Required value: lun is required if targetWWNs is specified"}},
		"flex, reserved": {volume(v1.VolumeSource{FlexVolume: &v1.FlexVolumeSource{Driver: "d", Options: map[string]string{"a.k8s.io/b": ""}}}), []string{"spec.volumes[0].flexVolume.options[a.k8s.io/b]: Invalid value … namespaces are reserved"}},
		"Azure":          {volume(v1.VolumeSource{AzureDisk: &v1.AzureDiskVolumeSource{DiskName: "d", DataDiskURI: "x"}}), []string{"spec.volumes[0].azureDisk.diskURI: Unsupported value"}},
		"a claim made for the pod": {func(p *v1.Pod) {
			claim := &v1.PersistentVolumeClaimTemplate{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: v1.PersistentVolumeClaimSpec{AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}}}
			p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{Ephemeral: &v1.EphemeralVolumeSource{VolumeClaimTemplate: claim}}},
				{Name: "w", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "web-v"}}}}
		}, []string{"spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set", "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value",
			"spec.volumes[1].persistentVolumeClaim.claimName: Invalid value … must not reference a PVC that gets created for an ephemeral volume"}},
		"a mount of a faulty one": {func(p *v1.Pod) {
			two(p)
			first(p).VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/v"}}
		}, []string{"spec.volumes[0].downwarAPI: Forbidden", `spec.containers[0].volumeMounts[0].name: Not found: "v"`}},
	})
}

func TestValidateStatusFields(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*v1.PodStatus)
		want   []string
	}{
		"good":          {func(s *v1.PodStatus) { s.PodIP, s.PodIPs = "1.2.3.4", []v1.PodIP{{IP: "1.2.3.4"}, {IP: "fd00::1"}} }, nil},
		"two of IPv4":   {func(s *v1.PodStatus) { s.PodIP, s.PodIPs = "1.2.3.4", []v1.PodIP{{IP: "1.2.3.4"}, {IP: "1.2.3.5"}} }, []string{"status.podIPs: Invalid value … may specify no more than one IP for each IP family"}},
		"another host":  {func(s *v1.PodStatus) { s.HostIP, s.HostIPs = "1.2.3.4", []v1.HostIP{{IP: "1.2.3.5"}} }, []string{"status.hostIPs[0].ip: Invalid value … must be equal to `hostIP`"}},
		"another class": {func(s *v1.PodStatus) { s.QOSClass = v1.PodQOSGuaranteed }, []string{"status.qosClass: Invalid value … field is immutable"}},
		"condition":     {func(s *v1.PodStatus) { s.Conditions = []v1.PodCondition{{Type: "a b"}} }, []string{"status.conditions[0].Type: Invalid value"}},
		"claim":         {func(s *v1.PodStatus) { s.ResourceClaimStatuses = []v1.PodResourceClaimStatus{{Name: "x"}} }, []string{"status.resourceClaimStatuses[0].name: Invalid value … must match the name of an entry in `spec.resourceClaims`"}},
		"health": {func(s *v1.PodStatus) {
			s.ContainerStatuses = []v1.ContainerStatus{{Name: "web", AllocatedResourcesStatus: []v1.ResourceStatus{{Name: "cpu", Resources: []v1.ResourceHealth{{ResourceID: "a", Health: "Ill"}}}}}}
		}, []string{"status.containerStatuses[0].allocatedResourcesStatus[0].name: Invalid value … must match one of the container's resource requests", "status.containerStatuses[0].allocatedResourcesStatus[0].resources[0].health: Unsupported value"}},
	} {
		t.Run(name, func(t *testing.T) {
			old := good()
			old.Status.QOSClass = ComputePodQOS(&old.Spec)
			pod := old.DeepCopy()
			test.change(&pod.Status)
			ruletest.Expect(t, ValidatePodStatusUpdate(pod, old), test.want...)
		})
	}
}

// What was changed is shown with Go's names, as upstream's internal types have them, and whole.
func TestUpdateShowsWhatChanged(t *testing.T) {
	old := good()
	pod := old.DeepCopy()
	pod.Spec.HostPID = true
	errs := ValidatePodUpdate(pod, old)
	if len(errs) != 1 || !strings.Contains(errs[0].Detail, "\n- \"HostPID\": false,\n+ \"HostPID\": true,\n") {
		t.Errorf("%v", errs)
	}
}
