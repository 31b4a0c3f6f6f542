// Package serviceaccount gives each pod an identity: the service account "default" unless it names
// one, which must exist, and a volume with a token, the cluster's CA and the namespace in each container.
//
// In Kubernetes: plugin/pkg/admission/serviceaccount.
package serviceaccount

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilrand "k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	apipod "hyperkube/api/core/pod"
	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

const (
	// DefaultServiceAccountName is the account of pods that name none.
	DefaultServiceAccountName = "default"
	// DefaultAPITokenMountPath is where client libraries look for the token.
	DefaultAPITokenMountPath = "/var/run/secrets/kubernetes.io/serviceaccount"
	// ServiceAccountVolumeName is the prefix of the volume's name.
	ServiceAccountVolumeName = "kube-api-access"
	// TokenExpirationSeconds is an hour and a mark by which such tokens can be told: 7 s.
	TokenExpirationSeconds = 3607
	// EnforceMountableSecretsAnnotation on a service account limits its pods to the secrets it lists.
	EnforceMountableSecretsAnnotation = "kubernetes.io/enforce-mountable-secrets"

	rootCAConfigMap = "kube-root-ca.crt"
)

// The account "default" of a new namespace is made by a controller; a pod may come sooner.
const (
	defaultAccountAttempts = 10
	retryInterval          = 100 * time.Millisecond
)

type serviceAccount struct {
	accounts lister.Lister[*corev1.ServiceAccount]
	clock    clock.Clock
}

// New makes the plugin; accounts is a confirmed lister.
func New(accounts lister.Lister[*corev1.ServiceAccount], c clock.Clock) plugin.Plugin {
	s := &serviceAccount{accounts, c}
	return plugin.Plugin{
		Name:       "ServiceAccount",
		Operations: []request.Operation{request.Create, request.Update},
		Admit:      s.admit,
		Sets: map[schema.GroupResource][]string{plugin.Pods: {"spec.serviceAccountName", "spec.serviceAccount", "spec.imagePullSecrets",
			"spec.volumes", "spec.containers.volumeMounts", "spec.initContainers.volumeMounts"}},
		Validate: s.validate,
	}
}

// admit works on pods that are being created. Mirror pods are copies of what a kubelet already runs: they are judged
// at once, before what restricts nodes has its say.
func (s *serviceAccount) admit(ctx context.Context, a *request.AdmissionAttributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || a.Operation != request.Create || !plugin.Is(a, "", "pods") {
		return nil
	}
	if isMirror(pod) {
		return s.validate(ctx, a)
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = DefaultServiceAccountName
	}
	pod.Spec.DeprecatedServiceAccount = pod.Spec.ServiceAccountName
	account, err := s.getServiceAccount(ctx, a.Namespace, pod.Spec.ServiceAccountName)
	if err != nil {
		return plugin.Forbidden(a, fmt.Errorf("error looking up service account %s/%s: %w", a.Namespace, pod.Spec.ServiceAccountName, err))
	}
	if shouldAutomount(account, pod) {
		mountServiceAccountToken(pod)
	}
	if len(pod.Spec.ImagePullSecrets) == 0 {
		pod.Spec.ImagePullSecrets = append([]corev1.LocalObjectReference(nil), account.ImagePullSecrets...)
	}
	return limitToAccount(a, account, pod)
}

// validate holds mirror pods to naming nothing of the API, and pods of an account that limits
// secrets to those; the latter for added ephemeral containers too.
func (s *serviceAccount) validate(ctx context.Context, a *request.AdmissionAttributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	ephemeral := a.Operation == request.Update && a.Resource.Resource == "pods" && a.Subresource == "ephemeralcontainers"
	created := a.Operation == request.Create && plugin.Is(a, "", "pods")
	if !ok || !ephemeral && !created {
		return nil
	}
	if created && isMirror(pod) {
		if err := validateMirror(pod); err != nil {
			return plugin.Forbidden(a, err)
		}
		return nil
	}
	account, err := s.getServiceAccount(ctx, a.Namespace, pod.Spec.ServiceAccountName)
	if err != nil {
		return plugin.Forbidden(a, fmt.Errorf("error looking up service account %s/%s: %w", a.Namespace, pod.Spec.ServiceAccountName, err))
	}
	return limitToAccount(a, account, pod)
}

// limitToAccount holds a pod to the secrets that its account lists, if the account says so.
func limitToAccount(a *request.AdmissionAttributes, account *corev1.ServiceAccount, pod *corev1.Pod) error {
	if enforce, _ := strconv.ParseBool(account.Annotations[EnforceMountableSecretsAnnotation]); !enforce {
		return nil
	}
	if err := limitSecretReferences(account, pod); err != nil {
		return plugin.Forbidden(a, err)
	}
	return nil
}

func isMirror(pod *corev1.Pod) bool {
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return mirror
}

func (s *serviceAccount) getServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	attempts := 1
	if name == DefaultServiceAccountName {
		attempts = defaultAccountAttempts
	}
	for {
		account, err := s.accounts.Get(namespace, name)
		if err == nil {
			return account, nil
		}
		if !apierrors.IsNotFound(err) {
			return nil, err
		}
		if attempts--; attempts == 0 {
			return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "serviceaccount"}, name)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.clock.After(retryInterval):
		}
	}
}

// shouldAutomount: the pod decides, else the account, else yes.
func shouldAutomount(account *corev1.ServiceAccount, pod *corev1.Pod) bool {
	if pod.Spec.AutomountServiceAccountToken != nil {
		return *pod.Spec.AutomountServiceAccountToken
	}
	return ptr.Deref(account.AutomountServiceAccountToken, true)
}

// mountServiceAccountToken mounts the volume in each container that has nothing at its path, and adds
// the volume if one of them does.
func mountServiceAccountToken(pod *corev1.Pod) {
	name, exists := "", false
	for _, v := range pod.Spec.Volumes {
		if strings.HasPrefix(v.Name, ServiceAccountVolumeName+"-") {
			name, exists = v.Name, true
			break
		}
	}
	if !exists {
		name = ServiceAccountVolumeName + "-" + utilrand.String(5)
	}
	needed := false
	apipod.VisitContainers(&pod.Spec, apipod.InitContainers|apipod.Containers, func(c *corev1.Container, _ apipod.ContainerType) bool {
		for _, m := range c.VolumeMounts {
			if m.MountPath == DefaultAPITokenMountPath {
				return true
			}
		}
		needed = true
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: DefaultAPITokenMountPath})
		return true
	})
	if needed && !exists {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: TokenVolumeSource()}})
	}
}

// TokenVolumeSource is what a program in a pod needs to talk to the API.
func TokenVolumeSource() *corev1.ProjectedVolumeSource {
	return &corev1.ProjectedVolumeSource{
		// Admission comes after defaulting, so it says what defaulting would have.
		DefaultMode: ptr.To(corev1.ProjectedVolumeSourceDefaultMode),
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To(int64(TokenExpirationSeconds))}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: rootCAConfigMap},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
				Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
			}}}},
		},
	}
}

func validateMirror(pod *corev1.Pod) error {
	if pod.Spec.ServiceAccountName != "" {
		return errors.New("a mirror pod may not reference service accounts")
	}
	if !apipod.VisitPodSecretNames(pod, func(string) bool { return false }) {
		return errors.New("a mirror pod may not reference secrets")
	}
	for _, v := range pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, source := range v.Projected.Sources {
			if source.ServiceAccountToken != nil {
				return errors.New("a mirror pod may not use ServiceAccountToken volume projections")
			}
		}
	}
	return nil
}

func limitSecretReferences(account *corev1.ServiceAccount, pod *corev1.Pod) error {
	allowed, pull := map[string]bool{}, map[string]bool{}
	for _, s := range account.Secrets {
		allowed[s.Name] = true
	}
	for _, s := range account.ImagePullSecrets {
		pull[s.Name] = true
	}
	for i, s := range pod.Spec.ImagePullSecrets {
		if !pull[s.Name] {
			return fmt.Errorf(`imagePullSecrets[%d].name="%s" is not allowed because service account %s does not reference that imagePullSecret`, i, s.Name, account.Name)
		}
	}
	withoutPull := pod.DeepCopy()
	withoutPull.Spec.ImagePullSecrets = nil
	var refused string
	apipod.VisitPodSecretNames(withoutPull, func(name string) bool {
		if !allowed[name] {
			refused = name
		}
		return refused == ""
	})
	if refused != "" {
		return fmt.Errorf(`secret.secretName="%s" is not allowed because service account %s does not reference that secret`, refused, account.Name)
	}
	return nil
}
