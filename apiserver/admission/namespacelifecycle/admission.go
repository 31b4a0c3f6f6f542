// Package namespacelifecycle keeps new objects out of namespaces that do not exist (404) or are
// being deleted (403), and the three namespaces that a cluster can't do without from being deleted.
//
// In Kubernetes: k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle.
package namespacelifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

// immortal namespaces hold what the cluster itself needs.
var immortal = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic}

// liveFor is how long after its deletion a namespace is not believed to be alive on the cache's word.
const liveFor = 30 * time.Second

type lifecycle struct {
	namespaces, live lister.Lister[*corev1.Namespace]
	clock            clock.PassiveClock

	mu      sync.Mutex
	deleted map[string]time.Time
}

// New makes the plugin. live reads from etcd.
func New(namespaces, live lister.Lister[*corev1.Namespace], c clock.PassiveClock) plugin.Plugin {
	l := &lifecycle{namespaces: namespaces, live: live, clock: c, deleted: map[string]time.Time{}}
	return plugin.Plugin{
		Name:       "NamespaceLifecycle",
		Operations: []request.Operation{request.Create, request.Update, request.Delete},
		Admit:      l.admit,
	}
}

func (l *lifecycle) admit(_ context.Context, a *request.AdmissionAttributes) error {
	isNamespace := a.Resource.Group == "" && a.Resource.Resource == "namespaces"
	if isNamespace {
		if a.Operation != request.Delete {
			return nil
		}
		if slices.Contains(immortal, a.Name) {
			return apierrors.NewForbidden(a.Resource.GroupResource(), a.Name, errors.New("this namespace may not be deleted"))
		}
		l.remember(a.Name)
		return nil
	}
	// Deletes go through always: they are how a namespace becomes empty.
	if a.Namespace == "" || a.Operation == request.Delete || isAccessReview(a) {
		return nil
	}
	namespace, err := l.get(a.Namespace)
	if err != nil {
		return err
	}
	if a.Operation != request.Create || namespace.Status.Phase != corev1.NamespaceTerminating {
		return nil
	}
	forbidden := plugin.Forbidden(a, fmt.Errorf("unable to create new content in namespace %s because it is being terminated", a.Namespace))
	var status *apierrors.StatusError
	if errors.As(forbidden, &status) {
		status.ErrStatus.Details.Causes = append(status.ErrStatus.Details.Causes, metav1.StatusCause{
			Type:    corev1.NamespaceTerminatingCause,
			Message: fmt.Sprintf("namespace %s is being terminated", a.Namespace),
			Field:   "metadata.namespace",
		})
	}
	return forbidden
}

// isAccessReview: one may ask about rights in a namespace that does not exist (yet).
func isAccessReview(a *request.AdmissionAttributes) bool {
	return a.Resource.Group == authorizationv1.GroupName && a.Resource.Resource == "localsubjectaccessreviews"
}

// get reads from the cache, except for a namespace that was deleted a moment ago: the cache may still
// show it alive, and what would be created in it now might outlive it.
func (l *lifecycle) get(name string) (*corev1.Namespace, error) {
	l.mu.Lock()
	at, recently := l.deleted[name]
	if recently && l.clock.Since(at) > liveFor {
		delete(l.deleted, name)
		recently = false
	}
	l.mu.Unlock()
	if recently {
		return l.live.Get("", name)
	}
	return l.namespaces.Get("", name)
}

func (l *lifecycle) remember(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	for other, at := range l.deleted {
		if now.Sub(at) > liveFor {
			delete(l.deleted, other)
		}
	}
	l.deleted[name] = now
}
