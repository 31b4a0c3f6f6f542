package manager

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"

	certificatesv1 "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/certificates/v1"

	"hyperkube/client/informers"
)

// TrustBundles finds the certificates of authorities that pods ask for by name or by signer. All bundles of the cluster
// are watched, from the first pod that needs one on: most nodes never have such a pod.
//
// In Kubernetes: pkg/kubelet/clustertrustbundle, which keeps each answer for five minutes and shuffles it anew after that.
// Here an answer is made at each ask; its order stays until the kubelet restarts.
type TrustBundles struct {
	ctx    context.Context // ends the watch
	client kubernetes.Interface
	// seed orders the certificates: the same for this kubelet, another for the next, so that nobody comes to rely on it.
	seed maphash.Seed

	mu     sync.Mutex
	lister listers.ClusterTrustBundleLister // nil until somebody has asked
	synced func() bool
	stop   func()
}

// NewTrustBundles makes a TrustBundles; client nil refuses all requests.
func NewTrustBundles(ctx context.Context, client kubernetes.Interface) *TrustBundles {
	return &TrustBundles{ctx: ctx, client: client, seed: maphash.MakeSeed()}
}

// TrustAnchors returns what source asks for, PEM, each certificate once. It is empty if there is nothing and source is
// optional.
func (t *TrustBundles) TrustAnchors(source *v1.ClusterTrustBundleProjection) ([]byte, error) {
	if t.client == nil {
		return nil, errors.New("ClusterTrustBundle projection is not supported in static kubelet mode")
	}
	lister, synced := t.watch()
	if !synced() {
		return nil, errors.New("ClusterTrustBundle informer has not yet synced")
	}
	bundles, err := selected(lister, source)
	if err != nil {
		return nil, err
	}
	return t.normalize(bundles), nil
}

// watch begins to watch, once.
func (t *TrustBundles) watch() (listers.ClusterTrustBundleLister, func() bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lister == nil {
		factory := informers.NewSharedInformerFactory(t.client, 0)
		bundles := factory.Certificates().V1().ClusterTrustBundles()
		t.lister, t.synced = bundles.Lister(), bundles.Informer().HasSynced
		factory.StartWithContext(t.ctx)
		t.stop = factory.Shutdown
	}
	return t.lister, t.synced
}

// Wait returns when the watch has ended, after the context did.
func (t *TrustBundles) Wait() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stop != nil {
		t.stop()
	}
}

// selected are the bundles that source names, or those of a signer that its selector matches: no selector matches none,
// an empty one all.
func selected(lister listers.ClusterTrustBundleLister, source *v1.ClusterTrustBundleProjection) ([]*certificatesv1.ClusterTrustBundle, error) {
	optional := source.Optional != nil && *source.Optional
	if source.Name != nil {
		bundle, err := lister.Get(*source.Name)
		switch {
		case err == nil:
			return []*certificatesv1.ClusterTrustBundle{bundle}, nil
		case optional: // a lister's one error is that there is none
			return nil, nil
		}
		return nil, fmt.Errorf("while getting ClusterTrustBundle: %w", err)
	}
	if source.SignerName == nil {
		return nil, errors.New("ClusterTrustBundle projection requires either name or signerName to be set")
	}
	selector, err := metav1.LabelSelectorAsSelector(source.LabelSelector)
	if err != nil {
		return nil, fmt.Errorf("while parsing label selector: %w", err)
	}
	all, err := lister.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(b *certificatesv1.ClusterTrustBundle) bool {
		return b.Spec.SignerName != *source.SignerName || !selector.Matches(labels.Set(b.Labels))
	})
	if len(all) == 0 && !optional {
		return nil, errors.New("combination of signerName and labelSelector matched zero ClusterTrustBundles")
	}
	return all, nil
}

// normalize writes the certificates of all bundles, each once, without what stands around them.
func (t *TrustBundles) normalize(bundles []*certificatesv1.ClusterTrustBundle) []byte {
	rank := map[string]uint64{}
	var anchors []string
	for _, bundle := range bundles {
		for block, rest := pem.Decode([]byte(bundle.Spec.TrustBundle)); block != nil; block, rest = pem.Decode(rest) {
			anchor := string(block.Bytes)
			if _, known := rank[anchor]; !known {
				rank[anchor] = maphash.String(t.seed, anchor)
				anchors = append(anchors, anchor)
			}
		}
	}
	slices.SortFunc(anchors, func(a, b string) int {
		if rank[a] < rank[b] {
			return -1
		}
		return 1
	})
	var out bytes.Buffer
	for _, anchor := range anchors {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: []byte(anchor)}) // a Buffer takes everything
	}
	return out.Bytes()
}
