package serviceaccount

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"hyperkube/client/informers"
	"hyperkube/pki/token"
	"hyperkube/reconcile"
)

// accountIndex finds the Secrets of an account: namespace/name.
const accountIndex = "account"

// TokensController fills Secrets of type kubernetes.io/service-account-token, and deletes them with their account:
//
//	Secret of that type ─────┐
//	ServiceAccount deleted ──┴─► Secret ─► syncSecret ─► ca.crt, namespace, token | delete
//
// The token names the Secret and never expires: pods get better ones by TokenRequest. Here are those that somebody asks for by hand, by creating
// such a Secret with the annotation kubernetes.io/service-account.name.
//
// In Kubernetes: pkg/controller/serviceaccount/tokens_controller.go.
type TokensController struct {
	*reconcile.Loop
	client   kubernetes.Interface
	keys     []token.Key
	rootCA   []byte
	saLister corelisters.ServiceAccountLister
	// secrets holds those of one type only. The controller runs it, since others would take it for all there are.
	secrets cache.SharedIndexInformer
}

// NewTokensController makes the controller. key is the service accounts' private key and rootCA the cluster's certificate, PEM.
func NewTokensController(client kubernetes.Interface, factory informers.SharedInformerFactory, key, rootCA []byte, options reconcile.Options) (*TokensController, error) {
	keys, err := token.ParseKeys(key)
	if err != nil {
		return nil, fmt.Errorf("service account key: %w", err)
	}
	accounts := factory.Core().V1().ServiceAccounts()
	c := &TokensController{client: client, keys: keys, rootCA: rootCA, saLister: accounts.Lister()}
	c.secrets = coreinformers.NewFilteredSecretInformer(client, metav1.NamespaceAll, 0, cache.Indexers{accountIndex: accountOf}, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("type", string(corev1.SecretTypeServiceAccountToken)).String()
	})
	c.Loop = reconcile.New("serviceaccounttoken", c.syncSecret, options)
	c.Watch(c.secrets, reconcile.Self)
	c.Watch(accounts.Informer(), c.secretsOf)
	return c, nil
}

func accountOf(object any) ([]string, error) {
	secret := object.(*corev1.Secret)
	return []string{secret.Namespace + "/" + secret.Annotations[corev1.ServiceAccountNameKey]}, nil
}

// secretsOf are the Secrets of an account that went.
func (c *TokensController) secretsOf(e reconcile.Event) []string {
	if !e.Deleted() {
		return nil
	}
	found, err := c.secrets.GetIndexer().ByIndex(accountIndex, e.Old.GetNamespace()+"/"+e.Old.GetName())
	if err != nil {
		return nil // there is such an index
	}
	var keys []string
	for _, secret := range found {
		keys = append(keys, cache.MetaObjectToName(secret.(*corev1.Secret)).String())
	}
	return keys
}

// Run runs the loop and the Secrets' informer until ctx ends.
func (c *TokensController) Run(ctx context.Context) error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		c.secrets.RunWithContext(ctx)
	}()
	defer func() { <-stopped }()
	return c.Loop.Run(ctx)
}

func (c *TokensController) syncSecret(ctx context.Context, key string) (reconcile.Result, error) {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return reconcile.Done, nil
	}
	object, found, err := c.secrets.GetIndexer().GetByKey(key)
	if err != nil {
		return reconcile.Done, err
	}
	if !found {
		return reconcile.Done, c.removeReferences(ctx, name)
	}
	secret := object.(*corev1.Secret)
	if secret.DeletionTimestamp != nil {
		return reconcile.Done, nil
	}
	account, err := c.account(ctx, secret)
	if err != nil {
		return reconcile.Done, err
	}
	if account == nil {
		err := c.client.CoreV1().Secrets(secret.Namespace).Delete(ctx, secret.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &secret.UID}})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return reconcile.Done, nil // it is gone, or another by now
		}
		return reconcile.Done, err
	}
	return reconcile.Done, c.generateTokenIfNeeded(ctx, account, secret)
}

// account is the one that secret names; nil when there is none: asked live, since a Secret often follows its account at once.
func (c *TokensController) account(ctx context.Context, secret *corev1.Secret) (*corev1.ServiceAccount, error) {
	name, uid := secret.Annotations[corev1.ServiceAccountNameKey], types.UID(secret.Annotations[corev1.ServiceAccountUIDKey])
	same := func(account *corev1.ServiceAccount) bool { return uid == "" || account.UID == uid }
	if account, err := c.saLister.ServiceAccounts(secret.Namespace).Get(name); err == nil && same(account) {
		return account, nil
	}
	account, err := c.client.CoreV1().ServiceAccounts(secret.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && !same(account) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return account, nil
}

// generateTokenIfNeeded puts into a Secret what it lacks. A token that is there stays, whoever wrote it.
func (c *TokensController) generateTokenIfNeeded(ctx context.Context, account *corev1.ServiceAccount, secret *corev1.Secret) error {
	wanted := map[string][]byte{}
	if len(c.rootCA) > 0 && !bytes.Equal(secret.Data[corev1.ServiceAccountRootCAKey], c.rootCA) {
		wanted[corev1.ServiceAccountRootCAKey] = c.rootCA
	}
	if len(secret.Data[corev1.ServiceAccountNamespaceKey]) == 0 {
		wanted[corev1.ServiceAccountNamespaceKey] = []byte(secret.Namespace)
	}
	if len(secret.Data[corev1.ServiceAccountTokenKey]) == 0 {
		signed, err := token.Sign(c.keys, token.NewLegacyClaims(account, secret))
		if err != nil {
			return err
		}
		wanted[corev1.ServiceAccountTokenKey] = []byte(signed)
	}
	if len(wanted) == 0 {
		return nil
	}
	secret = secret.DeepCopy()
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	for key, value := range wanted {
		secret.Data[key] = value
	}
	metav1.SetMetaDataAnnotation(&secret.ObjectMeta, corev1.ServiceAccountUIDKey, string(account.UID))
	_, err := c.client.CoreV1().Secrets(secret.Namespace).Update(ctx, secret, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil // the cache was behind: the event that it has not had yet brings the Secret back here
	}
	return err
}

// removeReferences takes the name of a Secret that is gone from the accounts that list it.
func (c *TokensController) removeReferences(ctx context.Context, secret cache.ObjectName) error {
	accounts, err := c.saLister.ServiceAccounts(secret.Namespace).List(labels.Everything())
	if err != nil {
		return err
	}
	isIt := func(ref corev1.ObjectReference) bool { return ref.Name == secret.Name }
	for _, account := range accounts {
		if !slices.ContainsFunc(account.Secrets, isIt) {
			continue
		}
		account = account.DeepCopy()
		account.Secrets = slices.DeleteFunc(account.Secrets, isIt)
		if _, err := c.client.CoreV1().ServiceAccounts(account.Namespace).Update(ctx, account, metav1.UpdateOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}
