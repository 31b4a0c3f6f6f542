package noderestriction

import (
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

func claim(name, volume string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: volume}}
}

func stored(name string, on corev1.PersistentVolumeSource) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: on}}
}

func driver(name, audience string) *storagev1.CSIDriver {
	return &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: storagev1.CSIDriverSpec{TokenRequests: []storagev1.TokenRequest{{Audience: "vault"}, {Audience: audience}}}}
}

// TestTokenAudiences: a node gets tokens of the audiences that its pod's volumes ask for, by every way that leads to a driver, and
// of those that RBAC grants it for the account (KEP-4193's follow-up, ServiceAccountNodeAudienceRestriction).
func TestTokenAudiences(t *testing.T) {
	of := func(from corev1.VolumeSource) func(*corev1.Pod) { return volume(from) }
	claims := func(name string) func(*corev1.Pod) {
		return of(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}})
	}
	for name, test := range map[string]struct {
		pod       []func(*corev1.Pod)
		audiences []string
		want      string
	}{
		"of this apiserver, mounted":    {pod: []func(*corev1.Pod){tokenOf("")}},
		"of this apiserver, said so":    {pod: []func(*corev1.Pod){tokenOf("")}, audiences: []string{""}},
		"of this apiserver, named":      {pod: []func(*corev1.Pod){tokenOf("")}, audiences: []string{"https://api"}, want: `system:node:n1 is not authorized to request tokens for audience "https://api"`},
		"of this apiserver, not at all": {want: `serviceaccounts "sa" is forbidden: system:node:n1 is not authorized to request tokens for audience ""`},
		"mounted":                       {pod: []func(*corev1.Pod){tokenOf(""), tokenOf("vault")}, audiences: []string{"vault"}},
		"two":                           {pod: []func(*corev1.Pod){tokenOf("a"), tokenOf("b")}, audiences: []string{"a", "b"}, want: "node may only request 0 or 1 audiences"},
		"granted":                       {audiences: []string{"granted"}},
		"of a driver":                   {pod: []func(*corev1.Pod){of(corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "d.example.com"}})}, audiences: []string{"d"}},
		"of another driver":             {pod: []func(*corev1.Pod){of(corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "d.example.com"}})}, audiences: []string{"ebs"}, want: "not authorized"},
		"of no driver": {pod: []func(*corev1.Pod){of(corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "gone.example.com"}})}, audiences: []string{"d"},
			want: `error validating audience "d": csidriver.storage.k8s.io "gone.example.com" not found`},
		"of what took a volume's place": {pod: []func(*corev1.Pod){of(corev1.VolumeSource{AWSElasticBlockStore: &corev1.AWSElasticBlockStoreVolumeSource{}})}, audiences: []string{"ebs"}},
		"of a claim's driver":           {pod: []func(*corev1.Pod){claims("csi")}, audiences: []string{"d"}},
		"of a claim's old volume":       {pod: []func(*corev1.Pod){claims("old")}, audiences: []string{"ebs"}},
		"of the pod's own claim":        {pod: []func(*corev1.Pod){of(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{}}})}, audiences: []string{"d"}},
		"of a claim on a plain volume":  {pod: []func(*corev1.Pod){claims("plain")}, audiences: []string{"d"}, want: "not authorized"},
		"of no claim": {pod: []func(*corev1.Pod){claims("none")}, audiences: []string{"d"},
			want: `error validating audience "d": persistentvolumeclaim "none" not found`},
		"of an unbound claim":          {pod: []func(*corev1.Pod){claims("unbound")}, audiences: []string{"d"}, want: `persistentvolume "" not found`},
		"of no claim, but mounted too": {pod: []func(*corev1.Pod){claims("none"), tokenOf("d")}, audiences: []string{"d"}},
		"of a share of nobody":         {pod: []func(*corev1.Pod){claims("share")}, audiences: []string{"d"}, want: "could not find a secret namespace in PersistentVolumeSource or ClaimRef"},
	} {
		p := New(Config{
			Pods: lister.Slice(schema.GroupResource{Resource: "pods"}, pod("n1", "mine", test.pod...)),
			Claims: lister.Slice(schema.GroupResource{Resource: "persistentvolumeclaims"},
				claim("csi", "csi"), claim("mine-v", "csi"), claim("old", "old"), claim("plain", "plain"), claim("share", "share"), claim("unbound", "")),
			Volumes: lister.Slice(schema.GroupResource{Resource: "persistentvolumes"},
				stored("csi", corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "d.example.com"}}),
				stored("old", corev1.PersistentVolumeSource{AWSElasticBlockStore: &corev1.AWSElasticBlockStoreVolumeSource{}}),
				stored("share", corev1.PersistentVolumeSource{AzureFile: &corev1.AzureFilePersistentVolumeSource{}}),
				stored("plain", corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{}})),
			Drivers:    lister.Slice(schema.GroupResource{Group: storagev1.GroupName, Resource: "csidrivers"}, driver("d.example.com", "d"), driver("ebs.csi.aws.com", "ebs")),
			Authorizer: func() request.Authorizer { return rights("request-serviceaccounts-token-audience granted sa") },
		})
		asked := token(&authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "mine", UID: "uid-of-pod"})
		asked.Spec.Audiences = test.audiences
		w := write{op: request.Create, resource: "serviceaccounts:token", name: "sa", obj: asked}
		err := p.Admit(t.Context(), attributes(w, &request.User{Name: "system:node:n1", Groups: []string{"system:nodes"}}))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
