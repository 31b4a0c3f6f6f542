package bootstrap

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"hyperkube/api/core/secret"
	"hyperkube/reconcile"
)

// TokenCleaner deletes the Secrets of bootstrap tokens that have expired.
type TokenCleaner struct {
	tokenLoop
	client kubernetes.Interface
	clock  clock.PassiveClock
}

// NewTokenCleaner makes the controller.
func NewTokenCleaner(client kubernetes.Interface, options reconcile.Options) *TokenCleaner {
	options = options.WithDefaults()
	c := &TokenCleaner{client: client, clock: options.Clock}
	c.tokenLoop = newTokenLoop(client, reconcile.New("tokencleaner", c.syncSecret, options))
	c.Watch(c.secrets, reconcile.Self)
	return c
}

func (c *TokenCleaner) syncSecret(ctx context.Context, key string) (reconcile.Result, error) {
	object, found, err := c.secrets.GetStore().GetByKey(key)
	if err != nil || !found {
		return reconcile.Done, err
	}
	token := object.(*corev1.Secret)
	left, expires := secret.BootstrapTokenExpires(token, c.clock.Now())
	if !expires || token.DeletionTimestamp != nil {
		return reconcile.Done, nil
	}
	if left > 0 {
		return reconcile.Result{After: left}, nil
	}
	err = c.client.CoreV1().Secrets(token.Namespace).Delete(ctx, token.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &token.UID}})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return reconcile.Done, nil // somebody else was quicker
	}
	return reconcile.Done, err
}

// tokenLoop is a loop with an informer of bootstrap tokens alone, which it runs itself: a shared one would hold every Secret there is.
type tokenLoop struct {
	*reconcile.Loop
	secrets cache.SharedIndexInformer
}

func newTokenLoop(client kubernetes.Interface, loop *reconcile.Loop) tokenLoop {
	return tokenLoop{loop, coreinformers.NewFilteredSecretInformer(client, metav1.NamespaceSystem, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("type", string(corev1.SecretTypeBootstrapToken)).String()
	})}
}

// Run runs the loop and its informer until ctx ends.
func (l *tokenLoop) Run(ctx context.Context) error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		l.secrets.RunWithContext(ctx)
	}()
	defer func() { <-stopped }()
	return l.Loop.Run(ctx)
}
