package bootstrap

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"hyperkube/api/core/secret"
	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

const (
	clusterInfo     = "cluster-info"
	kubeConfigKey   = "kubeconfig"
	signaturePrefix = "jws-kubeconfig-"
)

// Signer signs the kubeconfig of kube-public/cluster-info with each bootstrap token that is good for it.
type Signer struct {
	tokenLoop
	client   kubernetes.Interface
	clock    clock.PassiveClock
	cmLister corelisters.ConfigMapLister
}

// NewSigner makes the controller.
func NewSigner(client kubernetes.Interface, factory informers.SharedInformerFactory, options reconcile.Options) *Signer {
	options = options.WithDefaults()
	configMaps := factory.Core().V1().ConfigMaps()
	c := &Signer{client: client, clock: options.Clock, cmLister: configMaps.Lister()}
	c.tokenLoop = newTokenLoop(client, reconcile.New("bootstrapsigner", c.signConfigMap, options))
	key := cache.NewObjectName(metav1.NamespacePublic, clusterInfo).String()
	c.Watch(c.secrets, func(reconcile.Event) []string { return []string{key} })
	c.Watch(configMaps.Informer(), func(e reconcile.Event) []string {
		if object := e.Object(); object.GetNamespace() == metav1.NamespacePublic && object.GetName() == clusterInfo && !e.Deleted() {
			return []string{key}
		}
		return nil
	})
	return c
}

// signConfigMap writes the signatures that should be there if they are not those that are. There is one key only: that of cluster-info.
func (c *Signer) signConfigMap(ctx context.Context, _ string) (reconcile.Result, error) {
	current, err := c.cmLister.ConfigMaps(metav1.NamespacePublic).Get(clusterInfo)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil // its event will come
	}
	if err != nil {
		return reconcile.Done, err
	}
	content, signable := current.Data[kubeConfigKey]
	if !signable {
		return reconcile.Done, nil
	}
	data := maps.Clone(current.Data)
	maps.DeleteFunc(data, func(key, _ string) bool { return strings.HasPrefix(key, signaturePrefix) })
	var next time.Duration // until the first of these tokens expires
	now := c.clock.Now()
	for _, object := range c.secrets.GetStore().List() {
		token, good := secret.BootstrapTokenOf(object.(*corev1.Secret), secret.BootstrapTokenSigning, now)
		if !good {
			continue
		}
		data[signaturePrefix+token.ID] = computeDetachedSignature(content, token.ID, token.Secret)
		if left, expires := secret.BootstrapTokenExpires(object.(*corev1.Secret), now); expires && (next == 0 || left < next) {
			next = left
		}
	}
	if maps.Equal(data, current.Data) {
		return reconcile.Result{After: next}, nil
	}
	updated := current.DeepCopy()
	updated.Data = data
	_, err = c.client.CoreV1().ConfigMaps(updated.Namespace).Update(ctx, updated, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return reconcile.Done, err
	}
	return reconcile.Result{After: next}, nil
}

// computeDetachedSignature is a JWS in compact form (RFC 7515, appendix F) by HMAC-SHA256, without the content between the dots: that stands beside it.
func computeDetachedSignature(content, tokenID, tokenSecret string) string {
	header, _ := json.Marshal(map[string]string{"alg": "HS256", "kid": tokenID}) // strings cannot fail
	b64 := base64.RawURLEncoding.EncodeToString
	mac := hmac.New(sha256.New, []byte(tokenSecret))
	mac.Write([]byte(b64(header) + "." + b64([]byte(content))))
	return b64(header) + ".." + b64(mac.Sum(nil))
}
