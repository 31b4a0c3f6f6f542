package manager

import (
	"bytes"
	"encoding/pem"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
)

func bundle(name, signer, label string, anchors ...string) *certificatesv1.ClusterTrustBundle {
	text := "a word before\n"
	for _, anchor := range anchors {
		text += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(anchor)}))
	}
	return &certificatesv1.ClusterTrustBundle{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"live": label}},
		Spec:       certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: text},
	}
}

// anchors are the contents of the certificates, sorted by nothing: the order is the kubelet's own.
func anchors(data []byte) map[string]int {
	found := map[string]int{}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		found[string(block.Bytes)]++
	}
	return found
}

// KEP-3257: by name, by signer and labels; each certificate once; what there is not is an error or empty.
func TestTrustAnchors(t *testing.T) {
	api := fake.NewClientset(bundle("own", "", "", "a", "b"), bundle("example.com:s:1", "example.com/s", "yes", "a", "c"), bundle("example.com:s:2", "example.com/s", "no", "c", "d"))
	trust := NewTrustBundles(t.Context(), api)
	if _, synced := trust.watch(); !cache.WaitForCacheSync(t.Context().Done(), synced) {
		t.Fatal("the watch never says what there is")
	}
	all := &metav1.LabelSelector{}
	for name, test := range map[string]struct {
		source v1.ClusterTrustBundleProjection
		want   string
		err    string
	}{
		"by name":                  {source: v1.ClusterTrustBundleProjection{Name: ptr.To("own")}, want: "ab"},
		"a signer's, by name":      {source: v1.ClusterTrustBundleProjection{Name: ptr.To("example.com:s:2")}, want: "cd"},
		"all of a signer":          {source: v1.ClusterTrustBundleProjection{SignerName: ptr.To("example.com/s"), LabelSelector: all}, want: "acd"},
		"some of a signer":         {source: v1.ClusterTrustBundleProjection{SignerName: ptr.To("example.com/s"), LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"live": "yes"}}}, want: "ac"},
		"no selector matches none": {source: v1.ClusterTrustBundleProjection{SignerName: ptr.To("example.com/s")}, err: "combination of signerName and labelSelector matched zero ClusterTrustBundles"},
		"no such name":             {source: v1.ClusterTrustBundleProjection{Name: ptr.To("none")}, err: `while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io "none" not found`},
		"no such name, optional":   {source: v1.ClusterTrustBundleProjection{Name: ptr.To("none"), Optional: ptr.To(true)}},
		"no such signer, optional": {source: v1.ClusterTrustBundleProjection{SignerName: ptr.To("example.com/t"), LabelSelector: all, Optional: ptr.To(true)}},
		"neither":                  {source: v1.ClusterTrustBundleProjection{}, err: "requires either name or signerName"},
	} {
		got, err := trust.TrustAnchors(&test.source)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v, want %q", name, err, test.err)
			}
			continue
		}
		found := anchors(got)
		for _, want := range test.want {
			if found[string(want)] != 1 {
				t.Errorf("%s: %v, want each of %s once", name, found, test.want)
			}
		}
		if err != nil || len(found) != len(test.want) {
			t.Errorf("%s: %v, %v", name, found, err)
		}
		if again, _ := trust.TrustAnchors(&test.source); !bytes.Equal(again, got) {
			t.Errorf("%s: another order at the next ask", name)
		}
	}
	if _, err := NewTrustBundles(t.Context(), nil).TrustAnchors(&v1.ClusterTrustBundleProjection{Name: ptr.To("own")}); err == nil {
		t.Error("a kubelet without an apiserver knows whom to trust")
	}
}
