// Package token is serviceaccounts/NAME/token: a POST that answers with a signed token, bound to a pod,
// a secret or a node if the request says so (TokenRequest). The kubelet asks for the tokens that
// it mounts, kubectl for `create token`.
//
// In Kubernetes: pkg/registry/core/serviceaccount/storage/token.go and pkg/apis/authentication (defaults,
// validation).
package token

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/clock"

	"hyperkube/apiserver/authn/serviceaccount"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/registry"
)

const (
	defaultExpirationSeconds = 60 * 60
	minExpiration            = 10 * time.Minute
	maxExpirationSeconds     = 1 << 32

	// projectedExpirationSeconds marks the tokens that admission mounts in every pod. Programs built on
	// client libraries from before 2021 read such a token once only, so it is made good for a year,
	// with a note of when it should have been read again.
	projectedExpirationSeconds = 60*60 + 7
	extendedExpiration         = 365 * 24 * time.Hour
)

// creator answers TokenRequests.
type creator struct {
	accounts lister.Lister[*corev1.ServiceAccount]
	pods     lister.Lister[*corev1.Pod]
	secrets  lister.Lister[*corev1.Secret]
	nodes    lister.Lister[*corev1.Node]
	clock    clock.PassiveClock
	// issuer is loaded on first use, when the key file surely exists.
	issuer func() (*serviceaccount.Issuer, error)
}

// Subresource is the line "token" of serviceaccounts.
func Subresource(env *registry.Env) registry.Subresource {
	c := &creator{
		accounts: lister.Confirmed[*corev1.ServiceAccount](env, schema.GroupResource{Resource: "serviceaccounts"}),
		pods:     lister.Confirmed[*corev1.Pod](env, schema.GroupResource{Resource: "pods"}),
		secrets:  lister.Confirmed[*corev1.Secret](env, schema.GroupResource{Resource: "secrets"}),
		nodes:    lister.Confirmed[*corev1.Node](env, schema.GroupResource{Resource: "nodes"}),
		clock:    clock.RealClock{},
		issuer: sync.OnceValues(func() (*serviceaccount.Issuer, error) {
			return serviceaccount.NewIssuer(env.ServiceAccountKeyFile, env.ServiceAccountIssuer)
		}),
	}
	return registry.Subresource{
		Kind:   authenticationv1.SchemeGroupVersion.WithKind("TokenRequest"),
		New:    func() runtime.Object { return &authenticationv1.TokenRequest{} },
		Create: c.create,
	}
}

// create answers one TokenRequest:
//  1. defaults and validation;
//  2. the service account, and what the token is to be bound to, must exist and be the ones meant (uid);
//  3. claims, signature, status.
func (c *creator) create(_ context.Context, namespace, name string, obj runtime.Object, opts *metav1.CreateOptions) (runtime.Object, error) {
	// Step 1: defaults and validation.
	req, ok := obj.(*authenticationv1.TokenRequest)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("want a TokenRequest, have %T", obj))
	}
	issuer, err := c.issuer()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if err := checkMeta(req, namespace, name); err != nil {
		return nil, err
	}
	account, err := c.accounts.Get(namespace, name)
	if err != nil {
		return nil, err
	}
	if err := prepare(req, issuer); err != nil {
		return nil, err
	}

	// Step 2: what the token is bound to.
	if req.UID != "" && req.UID != account.UID {
		return nil, apierrors.NewConflict(schema.GroupResource{Group: authenticationv1.GroupName, Resource: "TokenRequest"}, name,
			fmt.Errorf("the UID in the token request (%s) does not match the UID of the service account (%s)", req.UID, account.UID))
	}
	claims, err := c.bind(account, req.Spec.BoundObjectRef)
	if err != nil {
		return nil, err
	}

	// Step 3: claims, signature, status.
	requested := time.Duration(*req.Spec.ExpirationSeconds) * time.Second
	claims.Audiences, claims.Expiration = req.Spec.Audiences, requested
	if *req.Spec.ExpirationSeconds == projectedExpirationSeconds && claims.Pod != nil && onlyOurs(req.Spec.Audiences, issuer.Audiences) {
		claims.Expiration, claims.WarnAfter = extendedExpiration, requested
	}
	now := c.clock.Now()
	signed, err := issuer.Sign(claims.New(now))
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("failed to generate token: %w", err))
	}
	req.Name, req.Namespace, req.UID = account.Name, account.Namespace, account.UID
	req.CreationTimestamp = metav1.NewTime(now)
	// The client is told the time it asked for, so that it renews well before the real end.
	req.Status = authenticationv1.TokenRequestStatus{Token: signed, ExpirationTimestamp: metav1.NewTime(now.Add(requested))}
	return req, nil
}

func invalid(name string, errs ...*field.Error) error {
	return apierrors.NewInvalid(authenticationv1.SchemeGroupVersion.WithKind("TokenRequest").GroupKind(), name, errs)
}

// checkMeta: whom the request names, if anybody, is whom its path names.
func checkMeta(req *authenticationv1.TokenRequest, namespace, name string) error {
	if req.Namespace != "" && req.Namespace != namespace {
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	if req.Name != "" && req.Name != name {
		return invalid(name, field.Invalid(field.NewPath("metadata", "name"), req.Name, "must match the service account name if specified"))
	}
	return nil
}

func prepare(req *authenticationv1.TokenRequest, issuer *serviceaccount.Issuer) error {
	if req.Spec.ExpirationSeconds == nil {
		seconds := int64(defaultExpirationSeconds)
		req.Spec.ExpirationSeconds = &seconds
	}
	if len(req.Spec.Audiences) == 0 {
		req.Spec.Audiences = issuer.Audiences
	}
	var errs field.ErrorList
	at := field.NewPath("spec", "expirationSeconds")
	if *req.Spec.ExpirationSeconds < int64(minExpiration/time.Second) {
		errs = append(errs, field.Invalid(at, *req.Spec.ExpirationSeconds, "may not specify a duration less than 10 minutes"))
	}
	if *req.Spec.ExpirationSeconds > maxExpirationSeconds {
		errs = append(errs, field.Invalid(at, *req.Spec.ExpirationSeconds, "may not specify a duration larger than 2^32 seconds"))
	}
	// Attestations are for tokens of webhooks, which are behind a gate upstream and not made here.
	if len(req.Spec.Attestations) > 0 {
		errs = field.ErrorList{field.Invalid(field.NewPath("spec", "attestations"), req.Spec.Attestations, "attestations may only be specified with a webhook bound object reference")}
	}
	if len(errs) > 0 {
		return invalid("", errs...)
	}
	return nil
}

// bind finds the object that the token shall not outlive.
func (c *creator) bind(account *corev1.ServiceAccount, ref *authenticationv1.BoundObjectReference) (serviceaccount.ClaimsFor, error) {
	claims := serviceaccount.ClaimsFor{ServiceAccount: account}
	if ref == nil {
		return claims, nil
	}
	var uid types.UID
	var err error
	kind := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	switch {
	case ref.Name == "" && kind.Group == "" && slices.Contains([]string{"Pod", "Secret", "Node"}, kind.Kind):
		return claims, apierrors.NewBadRequest("Name parameter required.")
	case kind.Group == "" && kind.Kind == "Pod":
		if claims.Pod, err = c.pods.Get(account.Namespace, ref.Name); err != nil {
			return claims, err
		}
		if claims.Pod.Spec.ServiceAccountName != account.Name {
			return claims, apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", account.Name))
		}
		uid = claims.Pod.UID
		claims.Node, err = c.nodeOf(claims.Pod)
	case kind.Group == "" && kind.Kind == "Secret":
		if claims.Secret, err = c.secrets.Get(account.Namespace, ref.Name); err == nil {
			uid = claims.Secret.UID
		}
	case kind.Group == "" && kind.Kind == "Node":
		if claims.Node, err = c.nodes.Get("", ref.Name); err == nil {
			uid = claims.Node.UID
		}
	default:
		err = apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s", kind.String()))
	}
	if err == nil && ref.UID != "" && ref.UID != uid {
		err = apierrors.NewConflict(schema.GroupResource{Group: kind.Group, Resource: kind.Kind}, ref.Name,
			fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	return claims, err
}

// nodeOf returns the pod's node, for the token to name; without its uid if there is no such Node.
func (c *creator) nodeOf(pod *corev1.Pod) (*corev1.Node, error) {
	if pod.Spec.NodeName == "" {
		return nil, nil
	}
	node, err := c.nodes.Get("", pod.Spec.NodeName)
	if apierrors.IsNotFound(err) {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: pod.Spec.NodeName}}, nil
	}
	return node, err
}

func onlyOurs(audiences, ours []string) bool {
	return !slices.ContainsFunc(audiences, func(a string) bool { return !slices.Contains(ours, a) })
}
