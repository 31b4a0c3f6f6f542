package admission

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"slices"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

var none = schema.GroupResource{Resource: "x"}

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "ns", Name: name} }

func amounts(pairs ...string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}

func podOf(requests, limits corev1.ResourceList) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: named("p"), Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "c", Image: "i", Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits},
	}}}}
}

// write is one write to ask the chain about.
func write(op request.Operation, group, resource, subresource string, obj, old runtime.Object) *request.AdmissionAttributes {
	return &request.AdmissionAttributes{
		User: &request.User{Name: "jane"}, Operation: op, Resource: schema.GroupVersionResource{Group: group, Version: "v1", Resource: resource},
		Subresource: subresource, Namespace: "ns", Name: "p", Object: obj, OldObject: old,
	}
}

func create(resource string, obj runtime.Object) *request.AdmissionAttributes {
	return write(request.Create, "", resource, "", obj, nil)
}

// ask runs the whole chain, and returns what the client is told.
func ask(t *testing.T, chain *Chain, a *request.AdmissionAttributes) (refusal string, warnings []string, annotations map[string]string) {
	t.Helper()
	ctx, w := request.WithWarnings(t.Context())
	ctx, notes := request.WithAnnotations(ctx)
	err := chain.Admit(ctx, a)
	if err == nil {
		err = chain.Validate(ctx, a)
	}
	if err != nil {
		refusal = err.Error()
	}
	return refusal, w.List(), notes.Values()
}

func expect(t *testing.T, got, want string) {
	t.Helper()
	if want == "" && got != "" || !strings.Contains(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLimitRangerRefuses(t *testing.T) {
	item := func(kind corev1.LimitType, change func(*corev1.LimitRangeItem)) corev1.LimitRangeItem {
		i := corev1.LimitRangeItem{Type: kind}
		change(&i)
		return i
	}
	claim := func(size string) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{ObjectMeta: named("p")}
		c.Spec.Resources.Requests = amounts("storage", size)
		return c
	}
	container, pod := corev1.LimitTypeContainer, corev1.LimitTypePod
	maxCPU := func(i *corev1.LimitRangeItem) { i.Max = amounts("cpu", "1") }
	minMemory := func(i *corev1.LimitRangeItem) { i.Min = amounts("memory", "1Mi") }
	ratio := func(i *corev1.LimitRangeItem) { i.MaxLimitRequestRatio = amounts("cpu", "2") }
	storage := func(i *corev1.LimitRangeItem) { i.Min, i.Max = amounts("storage", "1Gi"), amounts("storage", "2Gi") }
	for name, test := range map[string]struct {
		item corev1.LimitRangeItem
		a    *request.AdmissionAttributes
		want string
	}{
		"limit above":     {item(container, maxCPU), create("pods", podOf(nil, amounts("cpu", "2"))), "maximum cpu usage per Container is 1, but limit is 2"},
		"at the limit":    {item(container, maxCPU), create("pods", podOf(nil, amounts("cpu", "1000m"))), ""},
		"no limit":        {item(container, maxCPU), create("pods", podOf(nil, nil)), "maximum cpu usage per Container is 1.  No limit is specified"},
		"request below":   {item(container, minMemory), create("pods", podOf(amounts("memory", "1Ki"), nil)), "minimum memory usage per Container is 1Mi, but request is 1Ki"},
		"no request":      {item(container, minMemory), create("pods", podOf(nil, nil)), "minimum memory usage per Container is 1Mi.  No request is specified"},
		"ratio":           {item(container, ratio), create("pods", podOf(amounts("cpu", "100m"), amounts("cpu", "300m"))), "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"},
		"ratio kept":      {item(container, ratio), create("pods", podOf(amounts("cpu", "100m"), amounts("cpu", "200m"))), ""},
		"sum of pod":      {item(pod, maxCPU), create("pods", podOf(nil, amounts("cpu", "1500m"))), "maximum cpu usage per Pod is 1, but limit is 1500m"},
		"small claim":     {item(corev1.LimitTypePersistentVolumeClaim, storage), create("persistentvolumeclaims", claim("1Mi")), "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"},
		"large claim":     {item(corev1.LimitTypePersistentVolumeClaim, storage), create("persistentvolumeclaims", claim("3Gi")), "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"},
		"right claim":     {item(corev1.LimitTypePersistentVolumeClaim, storage), create("persistentvolumeclaims", claim("2Gi")), ""},
		"resized above":   {item(container, maxCPU), write(request.Update, "", "pods", "resize", podOf(nil, amounts("cpu", "2")), podOf(nil, amounts("cpu", "1"))), "but limit is 2"},
		"labelled, above": {item(container, maxCPU), write(request.Update, "", "pods", "", podOf(nil, amounts("cpu", "2")), podOf(nil, amounts("cpu", "2"))), ""},
	} {
		t.Run(name, func(t *testing.T) {
			chain := newChain(t, func(c *Config) {
				c.LimitRanges = lister.Slice(none, &corev1.LimitRange{ObjectMeta: named("l"), Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{test.item}}})
			})
			refusal, _, _ := ask(t, chain, test.a)
			expect(t, refusal, test.want)
		})
	}
}

func TestLimitRangerFillsIn(t *testing.T) {
	chain := newChain(t, func(c *Config) {
		c.LimitRanges = lister.Slice(none, &corev1.LimitRange{ObjectMeta: named("l"), Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
			Type: corev1.LimitTypeContainer, Default: amounts("cpu", "1"), DefaultRequest: amounts("cpu", "100m", "memory", "8Mi"),
		}}}})
	})
	pod := podOf(amounts("memory", "16Mi"), nil)
	refusal, _, _ := ask(t, chain, create("pods", pod))
	expect(t, refusal, "")
	r := pod.Spec.Containers[0].Resources
	if r.Requests.Cpu().String() != "100m" || r.Requests.Memory().String() != "16Mi" || r.Limits.Cpu().String() != "1" {
		t.Errorf("%+v", r)
	}
	if got, want := pod.Annotations["kubernetes.io/limit-ranger"], "LimitRanger plugin set: cpu request for container c; cpu limit for container c"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestPodSecurity(t *testing.T) {
	privileged := podOf(nil, nil)
	privileged.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: ptr.To(true)}
	with := func(labels ...string) func(*Config) {
		meta := metav1.ObjectMeta{Name: "ns", Labels: map[string]string{}}
		for i := 0; i < len(labels); i += 2 {
			meta.Labels["pod-security.kubernetes.io/"+labels[i]] = labels[i+1]
		}
		return func(c *Config) {
			c.Namespaces = lister.Slice(none, &corev1.Namespace{ObjectMeta: meta})
			c.Pods = lister.Slice(none, privileged, &corev1.Pod{ObjectMeta: named("q"), Spec: privileged.Spec})
		}
	}
	namespace := func(labels map[string]string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: labels}}
	}
	rc := &corev1.ReplicationController{ObjectMeta: named("r"), Spec: corev1.ReplicationControllerSpec{Template: &corev1.PodTemplateSpec{Spec: privileged.Spec}}}
	baseline := map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}
	for name, test := range map[string]struct {
		labels              func(*Config)
		a                   *request.AdmissionAttributes
		refusal, warning    string
		annotation, details string
	}{
		"no labels": {with(), create("pods", privileged.DeepCopy()), "", "", "enforce-policy", "privileged:latest"},
		"enforced": {with("enforce", "baseline"), create("pods", privileged.DeepCopy()),
			`violates PodSecurity "baseline:latest": privileged (container "c" must not set securityContext.privileged=true)`, "", "enforce-policy", "baseline:latest"},
		"kept":          {with("enforce", "baseline"), create("pods", podOf(nil, nil)), "", "", "enforce-policy", "baseline:latest"},
		"warned":        {with("warn", "baseline"), create("pods", privileged.DeepCopy()), "", `would violate PodSecurity "baseline:latest": privileged`, "", ""},
		"audited":       {with("audit", "baseline"), create("pods", privileged.DeepCopy()), "", "", "audit-violations", `would violate PodSecurity "baseline:latest"`},
		"controller":    {with("enforce", "baseline"), create("replicationcontrollers", rc), "", `would violate PodSecurity "baseline:latest": privileged`, "", ""},
		"wrong level":   {with(), create("namespaces", namespace(map[string]string{"pod-security.kubernetes.io/enforce": "strict"})), `Invalid value: "strict"`, "", "", ""},
		"what is there": {with(), write(request.Update, "", "namespaces", "", namespace(baseline), namespace(nil)), "", `p (and 1 other pod): privileged`, "", ""},
		"relabelled":    {with("enforce", "baseline"), write(request.Update, "", "pods", "", privileged.DeepCopy(), privileged.DeepCopy()), "", "", "", ""},
		"its status":    {with("enforce", "baseline"), write(request.Update, "", "pods", "status", privileged.DeepCopy(), privileged.DeepCopy()), "", "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			refusal, warnings, annotations := ask(t, newChain(t, test.labels), test.a)
			expect(t, refusal, test.refusal)
			expect(t, strings.Join(warnings, "\n"), test.warning)
			if test.annotation != "" {
				expect(t, annotations["pod-security.kubernetes.io/"+test.annotation], test.details)
			}
		})
	}
}

func TestStorage(t *testing.T) {
	at := func(name string, seconds int64, annotations map[string]string, expand bool) *storagev1.StorageClass {
		return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.Unix(seconds, 0), Annotations: annotations}, AllowVolumeExpansion: &expand}
	}
	marked := map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}
	chain := newChain(t, func(c *Config) {
		c.StorageClasses = lister.Slice(none, at("old", 1, marked, true), at("new", 2, marked, false), at("newest", 3, nil, false))
	})
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: named("p")}
	refusal, _, _ := ask(t, chain, create("persistentvolumeclaims", claim))
	if refusal != "" || ptr.Deref(claim.Spec.StorageClassName, "") != "new" || !slices.Equal(claim.Finalizers, []string{"kubernetes.io/pvc-protection"}) {
		t.Errorf("%s %+v", refusal, claim)
	}
	chosen := &corev1.PersistentVolumeClaim{ObjectMeta: named("p"), Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: ptr.To("")}}
	if ask(t, chain, create("persistentvolumeclaims", chosen)); *chosen.Spec.StorageClassName != "" {
		t.Errorf("no class was asked for, got %q", *chosen.Spec.StorageClassName)
	}
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}}
	a := create("persistentvolumes", volume)
	a.Namespace = ""
	if ask(t, chain, a); !slices.Equal(volume.Finalizers, []string{"kubernetes.io/pv-protection"}) {
		t.Errorf("%v", volume.Finalizers)
	}
	gold := &storagev1.VolumeAttributesClass{ObjectMeta: metav1.ObjectMeta{Name: "gold"}}
	a = create("volumeattributesclasses", gold)
	a.Namespace, a.Resource.Group = "", storagev1.GroupName
	if ask(t, chain, a); !slices.Equal(gold.Finalizers, []string{"kubernetes.io/vac-protection"}) {
		t.Errorf("%v", gold.Finalizers)
	}
	grown := func(class, size string, phase corev1.PersistentVolumeClaimPhase) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{ObjectMeta: named("p"), Status: corev1.PersistentVolumeClaimStatus{Phase: phase}}
		c.Spec.StorageClassName, c.Spec.Resources.Requests = &class, amounts("storage", size)
		return c
	}
	for _, test := range []struct{ class, size, phase, want string }{
		{"old", "2Gi", "Bound", ""},
		{"new", "2Gi", "Bound", "the storageclass that provisions the pvc must support resize"},
		{"old", "2Gi", "Pending", "Only bound persistent volume claims can be expanded"},
		{"new", "1Gi", "Pending", ""},
	} {
		phase := corev1.PersistentVolumeClaimPhase(test.phase)
		refusal, _, _ := ask(t, chain, write(request.Update, "", "persistentvolumeclaims", "", grown(test.class, test.size, phase), grown(test.class, "1Gi", phase)))
		expect(t, refusal, test.want)
	}
}

func TestRuntimeClass(t *testing.T) {
	chain := newChain(t, func(c *Config) {
		c.RuntimeClasses = lister.Slice(none, &nodev1.RuntimeClass{
			ObjectMeta: metav1.ObjectMeta{Name: "kata"}, Overhead: &nodev1.Overhead{PodFixed: amounts("cpu", "10m")},
			Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"vm": "yes"}, Tolerations: []corev1.Toleration{{Key: "vm"}}},
		})
	})
	with := func(class string, selector map[string]string, overhead corev1.ResourceList) *corev1.Pod {
		p := podOf(nil, nil)
		p.Spec.NodeSelector, p.Spec.Overhead = selector, overhead
		if class != "" {
			p.Spec.RuntimeClassName = &class
		}
		return p
	}
	good := with("kata", nil, nil)
	for _, test := range []struct {
		pod  *corev1.Pod
		want string
	}{
		{good, ""},
		{with("kata", map[string]string{"vm": "no"}, nil), "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no"},
		{with("kata", nil, amounts("cpu", "1")), "doesn't match RuntimeClass's defined Overhead"},
		{with("", nil, amounts("cpu", "1")), "set without corresponding RuntimeClass"},
		{with("gvisor", nil, nil), `RuntimeClass "gvisor" not found`},
	} {
		refusal, _, _ := ask(t, chain, create("pods", test.pod))
		expect(t, refusal, test.want)
	}
	if good.Spec.Overhead.Cpu().String() != "10m" || good.Spec.NodeSelector["vm"] != "yes" || !slices.ContainsFunc(good.Spec.Tolerations, func(x corev1.Toleration) bool { return x.Key == "vm" }) {
		t.Errorf("%+v", good.Spec)
	}
}

// grants allows one verb on one signer.
type grants struct{ verb, signer string }

func (g grants) Authorize(_ context.Context, a request.Attributes) (request.Decision, string, error) {
	if a.Resource == "signers" && a.APIGroup == "certificates.k8s.io" && a.Verb == g.verb && a.Name == g.signer {
		return request.Allow, "", nil
	}
	return request.NoOpinion, "", nil
}

func TestCertificates(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr := func(signer, group string) *certificatesv1.CertificateSigningRequest {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane", Organization: []string{group}}}, key)
		if err != nil {
			t.Fatal(err)
		}
		return &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: certificatesv1.CertificateSigningRequestSpec{
			SignerName: signer, Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
		}}
	}
	const client = "kubernetes.io/kube-apiserver-client"
	signed := csr("a.b/c", "")
	signed.Status.Certificate = []byte("x")
	update := func(subresource string, obj *certificatesv1.CertificateSigningRequest) *request.AdmissionAttributes {
		return write(request.Update, "certificates.k8s.io", "certificatesigningrequests", subresource, obj, csr("a.b/c", ""))
	}
	created := func(signer, group string) *request.AdmissionAttributes {
		return write(request.Create, "certificates.k8s.io", "certificatesigningrequests", "", csr(signer, group), nil)
	}
	for name, test := range map[string]struct {
		grants grants
		a      *request.AdmissionAttributes
		want   string
	}{
		"approve":             {grants{"approve", "a.b/c"}, update("approval", csr("a.b/c", "")), ""},
		"approve the domain":  {grants{"approve", "a.b/*"}, update("approval", csr("a.b/c", "")), ""},
		"approve another's":   {grants{"approve", "x.y/z"}, update("approval", csr("x.y/z", "")), `user not permitted to approve requests with signerName "a.b/c"`},
		"sign":                {grants{"sign", "a.b/c"}, update("status", signed), ""},
		"sign unasked":        {grants{"approve", "a.b/c"}, update("status", signed), `user not permitted to sign requests with signerName "a.b/c"`},
		"status, nothing new": {grants{}, update("status", csr("a.b/c", "")), ""},
		"masters":             {grants{}, created(client, "system:masters"), "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"},
		"devs":                {grants{}, created(client, "devs"), ""},
		"masters elsewhere":   {grants{}, created("a.b/c", "system:masters"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			test.a.Namespace = ""
			refusal, _, _ := ask(t, newChain(t, func(c *Config) { c.Authorizer = func() request.Authorizer { return test.grants } }), test.a)
			expect(t, refusal, test.want)
		})
	}
}

// Requests of pods are answered by who may sign, and bundles of trust written by who may attest, for that signer.
func TestCertificatesOfPods(t *testing.T) {
	asked := func(change func(*certificatesv1.PodCertificateRequestStatus)) *certificatesv1.PodCertificateRequest {
		r := &certificatesv1.PodCertificateRequest{ObjectMeta: named("r"), Spec: certificatesv1.PodCertificateRequestSpec{SignerName: "a.b/c"}}
		change(&r.Status)
		return r
	}
	same := func(*certificatesv1.PodCertificateRequestStatus) {}
	answer := func(subresource string, change func(*certificatesv1.PodCertificateRequestStatus)) *request.AdmissionAttributes {
		return write(request.Update, "certificates.k8s.io", "podcertificaterequests", subresource, asked(change), asked(same))
	}
	chain := func(s *certificatesv1.PodCertificateRequestStatus) { s.CertificateChain = "x" }
	bundle := func(signer, text string, finalizers ...string) *certificatesv1.ClusterTrustBundle {
		return &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: "b", Finalizers: finalizers}, Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: text}}
	}
	attest := func(operation request.Operation, b, old *certificatesv1.ClusterTrustBundle) *request.AdmissionAttributes {
		a := write(operation, "certificates.k8s.io", "clustertrustbundles", "", b, nil)
		if old != nil {
			a.OldObject = old
		}
		a.Namespace = ""
		return a
	}
	const noSigner, noAttester = `user not permitted to sign requests with signerName "a.b/c"`, `user not permitted to attest for signerName "a.b/c"`
	for name, test := range map[string]struct {
		grants grants
		a      *request.AdmissionAttributes
		want   string
	}{
		"issue":               {grants{"sign", "a.b/c"}, answer("status", chain), ""},
		"issue in the domain": {grants{"sign", "a.b/*"}, answer("status", chain), ""},
		"issue unasked":       {grants{"attest", "a.b/c"}, answer("status", chain), noSigner},
		"deny unasked": {grants{}, answer("status", func(s *certificatesv1.PodCertificateRequestStatus) {
			s.Conditions = []metav1.Condition{{Type: certificatesv1.PodCertificateRequestConditionTypeDenied}}
		}), noSigner},
		"nothing new":         {grants{}, answer("status", same), ""},
		"not the status":      {grants{}, answer("", same), ""},
		"attest":              {grants{"attest", "a.b/c"}, attest(request.Create, bundle("a.b/c", "x"), nil), ""},
		"attest the domain":   {grants{"attest", "a.b/*"}, attest(request.Create, bundle("a.b/c", "x"), nil), ""},
		"attest unasked":      {grants{"sign", "a.b/c"}, attest(request.Create, bundle("a.b/c", "x"), nil), noAttester},
		"change unasked":      {grants{}, attest(request.Update, bundle("a.b/c", "y"), bundle("a.b/c", "x")), noAttester},
		"nobody's":            {grants{}, attest(request.Create, bundle("", "x"), nil), ""},
		"collected":           {grants{}, attest(request.Update, bundle("a.b/c", "x"), bundle("a.b/c", "x", "a.b/f")), ""},
		"collected, and more": {grants{}, attest(request.Update, bundle("a.b/c", "y"), bundle("a.b/c", "x", "a.b/f")), noAttester},
	} {
		t.Run(name, func(t *testing.T) {
			refusal, _, _ := ask(t, newChain(t, func(c *Config) { c.Authorizer = func() request.Authorizer { return test.grants } }), test.a)
			expect(t, refusal, test.want)
		})
	}
}

func TestIngressClassAndTopology(t *testing.T) {
	chain := newChain(t, func(c *Config) {
		c.IngressClasses = lister.Slice(none, &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "nginx", Annotations: map[string]string{"ingressclass.kubernetes.io/is-default-class": "true"}}})
		c.Nodes = lister.Slice(none, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{corev1.LabelTopologyZone: "z", corev1.LabelHostname: "h"}}})
	})
	plain, annotated := &networkingv1.Ingress{ObjectMeta: named("i")}, &networkingv1.Ingress{ObjectMeta: named("i")}
	annotated.Annotations = map[string]string{"kubernetes.io/ingress.class": "other"}
	for _, ingress := range []*networkingv1.Ingress{plain, annotated} {
		ask(t, chain, write(request.Create, "networking.k8s.io", "ingresses", "", ingress, nil))
	}
	if ptr.Deref(plain.Spec.IngressClassName, "") != "nginx" || annotated.Spec.IngressClassName != nil {
		t.Errorf("%v %v", plain.Spec.IngressClassName, annotated.Spec.IngressClassName)
	}
	binding := &corev1.Binding{ObjectMeta: named("p"), Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}
	ask(t, chain, write(request.Create, "", "pods", "binding", binding, nil))
	if len(binding.Labels) != 1 || binding.Labels[corev1.LabelTopologyZone] != "z" {
		t.Errorf("%v", binding.Labels)
	}
}

func TestResourceQuota(t *testing.T) {
	quota := func(hard, used corev1.ResourceList, scopes ...corev1.ResourceQuotaScope) *corev1.ResourceQuota {
		return &corev1.ResourceQuota{ObjectMeta: named("q"), Spec: corev1.ResourceQuotaSpec{Hard: hard, Scopes: scopes}, Status: corev1.ResourceQuotaStatus{Hard: hard, Used: used}}
	}
	service := func(kind corev1.ServiceType, rv string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", ResourceVersion: rv}, Spec: corev1.ServiceSpec{Type: kind, Ports: []corev1.ServicePort{{Port: 1}, {Port: 2}}}}
	}
	plain := func() *corev1.Pod {
		p := podOf(nil, nil)
		p.ResourceVersion = "1"
		return p
	}
	ending := func() *corev1.Pod {
		p := plain()
		p.Spec.ActiveDeadlineSeconds = ptr.To[int64](60)
		return p
	}
	claim := func() *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", ResourceVersion: "1"}}
	}
	classed := func() *corev1.PersistentVolumeClaim {
		c := claim()
		c.Status.CurrentVolumeAttributesClassName = ptr.To("gold")
		return c
	}
	lb := corev1.ServiceTypeLoadBalancer
	for name, test := range map[string]struct {
		quota *corev1.ResourceQuota
		a     *request.AdmissionAttributes
		want  string
		used  corev1.ResourceList
	}{
		"full":        {quota(amounts("pods", "2"), amounts("pods", "2")), create("pods", podOf(nil, nil)), "exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2", nil},
		"charged":     {quota(amounts("pods", "2", "requests.cpu", "1"), amounts("pods", "1", "requests.cpu", "0")), create("pods", podOf(amounts("cpu", "300m"), nil)), "", amounts("pods", "2", "requests.cpu", "300m")},
		"unsaid":      {quota(amounts("limits.cpu", "1", "requests.memory", "1Gi"), amounts("limits.cpu", "0", "requests.memory", "0")), create("pods", podOf(nil, nil)), "failed quota: q: must specify limits.cpu for: c; requests.memory for: c", nil},
		"unknown":     {quota(amounts("pods", "2"), nil), create("pods", podOf(nil, nil)), "status unknown for quota: q, resources: pods", nil},
		"scope":       {quota(amounts("pods", "0"), amounts("pods", "0"), corev1.ResourceQuotaScopeTerminating), create("pods", podOf(nil, nil)), "", amounts("pods", "0")},
		"best effort": {quota(amounts("pods", "0"), amounts("pods", "0"), corev1.ResourceQuotaScopeBestEffort), create("pods", podOf(nil, nil)), "exceeded quota", nil},
		"any kind":    {quota(amounts("count/leases.coordination.k8s.io", "0"), amounts("count/leases.coordination.k8s.io", "0")), write(request.Create, "coordination.k8s.io", "leases", "", podOf(nil, nil), nil), "exceeded quota: q, requested: count/leases.coordination.k8s.io=1", nil},
		"changed type": {quota(amounts("services.loadbalancers", "0", "services.nodeports", "9"), amounts("services.loadbalancers", "0", "services.nodeports", "2")),
			write(request.Update, "", "services", "", service(lb, "1"), service(corev1.ServiceTypeNodePort, "1")), "exceeded quota: q, requested: services.loadbalancers=1", nil},
		"same type":             {quota(amounts("services.loadbalancers", "0", "services", "0"), amounts("services.loadbalancers", "1", "services", "1")), write(request.Update, "", "services", "", service(lb, "1"), service(lb, "1")), "", amounts("services.loadbalancers", "1", "services", "1")},
		"new by PUT":            {quota(amounts("services", "0"), amounts("services", "0")), write(request.Update, "", "services", "", service(lb, ""), service(lb, "")), "exceeded quota", nil},
		"updated pod":           {quota(amounts("pods", "0"), amounts("pods", "1")), write(request.Update, "", "pods", "", podOf(nil, nil), podOf(nil, nil)), "", amounts("pods", "1")},
		"new deadline":          {quota(amounts("pods", "2"), amounts("pods", "1"), corev1.ResourceQuotaScopeTerminating), write(request.Update, "", "pods", "", ending(), plain()), "", amounts("pods", "2")},
		"new deadline, full":    {quota(amounts("pods", "1"), amounts("pods", "1"), corev1.ResourceQuotaScopeTerminating), write(request.Update, "", "pods", "", ending(), plain()), "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1", nil},
		"new deadline, any pod": {quota(amounts("pods", "1"), amounts("pods", "1")), write(request.Update, "", "pods", "", ending(), plain()), "", amounts("pods", "1")},
		"new class":             {quota(amounts("persistentvolumeclaims", "0"), amounts("persistentvolumeclaims", "0"), corev1.ResourceQuotaScopeVolumeAttributesClass), write(request.Update, "", "persistentvolumeclaims", "", classed(), claim()), "exceeded quota", nil},
		"new class, by status":  {quota(amounts("persistentvolumeclaims", "0"), amounts("persistentvolumeclaims", "0"), corev1.ResourceQuotaScopeVolumeAttributesClass), write(request.Update, "", "persistentvolumeclaims", "status", classed(), claim()), "", amounts("persistentvolumeclaims", "1")},
	} {
		t.Run(name, func(t *testing.T) {
			stored := test.quota.DeepCopy()
			chain := newChain(t, func(c *Config) {
				c.ResourceQuotas = lister.Slice(none, test.quota)
				c.UpdateQuotaStatus = func(_ context.Context, _, _ string, change func(*corev1.ResourceQuota) error) error {
					return change(stored)
				}
			})
			dry := *test.a
			dry.DryRun = true
			if dry.Object != nil {
				dry.Object = dry.Object.DeepCopyObject()
			}
			refusal, _, _ := ask(t, chain, &dry)
			expect(t, refusal, test.want)
			for name, quantity := range stored.Status.Used {
				if before := test.quota.Status.Used[name]; quantity.Cmp(before) != 0 {
					t.Errorf("a dry run was charged %s", name)
				}
			}
			refusal, _, _ = ask(t, chain, test.a)
			expect(t, refusal, test.want)
			for name, quantity := range test.used {
				if got := stored.Status.Used[name]; got.Cmp(quantity) != 0 {
					t.Errorf("used %s=%s, want %s", name, got.String(), quantity.String())
				}
			}
		})
	}
}

// What is charged is decided by the quota in the store, not by the one in the cache.
// An update that loses a race is asked about again; it is one write all the same, and pays once.
func TestResourceQuotaChargesAWriteOnce(t *testing.T) {
	cached := &corev1.ResourceQuota{ObjectMeta: named("q"), Status: corev1.ResourceQuotaStatus{Hard: amounts("pods", "1"), Used: amounts("pods", "0")}}
	stored := cached.DeepCopy()
	chain := newChain(t, func(c *Config) {
		c.ResourceQuotas = lister.Slice(none, cached)
		c.UpdateQuotaStatus = func(_ context.Context, _, _ string, change func(*corev1.ResourceQuota) error) error {
			return change(stored)
		}
	})
	spent := map[string]any{}
	for range 3 {
		a := create("pods", podOf(nil, nil))
		a.Spent = spent
		refusal, _, _ := ask(t, chain, a)
		expect(t, refusal, "")
	}
	if used := stored.Status.Used["pods"]; used.Value() != 1 {
		t.Errorf("one pod was charged as %s", used.String())
	}
}

func TestResourceQuotaBelievesTheStore(t *testing.T) {
	cached := &corev1.ResourceQuota{ObjectMeta: named("q"), Status: corev1.ResourceQuotaStatus{Hard: amounts("pods", "1"), Used: amounts("pods", "0")}}
	stored := cached.DeepCopy()
	chain := newChain(t, func(c *Config) {
		c.ResourceQuotas = lister.Slice(none, cached)
		c.UpdateQuotaStatus = func(_ context.Context, _, _ string, change func(*corev1.ResourceQuota) error) error {
			return change(stored)
		}
	})
	first, _, _ := ask(t, chain, create("pods", podOf(nil, nil)))
	second, _, _ := ask(t, chain, create("pods", podOf(nil, nil)))
	expect(t, first, "")
	expect(t, second, "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1")
}
