package bootstrappolicy

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/authz/rbac"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/request"
)

// concurrency is how many writes are under way at once: etcd syncs them to disk together.
const concurrency = 32

// object is any of the four kinds.
type object interface {
	runtime.Object
	metav1.Object
}

// Ensure brings the store up to the default policy, at each start of an apiserver. What is missing is
// created. What is there keeps whatever was added to it, gets what the policy has more, and is left
// alone altogether if its annotation rbac.authorization.kubernetes.io/autoupdate is "false". It
// is compared in the cache first, so that a restart writes nothing.
func Ensure(ctx context.Context, env *registry.Env) error {
	ctx = request.WithUser(ctx, request.APIServer())
	p := Default()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(concurrency)
	// Roles before bindings is of no use: a binding may come before its role.
	for _, err := range []error{
		ensurer[*rbacv1.ClusterRole]{env, "clusterroles", reconcileClusterRole}.ensure(ctx, group, p.ClusterRoles),
		ensurer[*rbacv1.ClusterRoleBinding]{env, "clusterrolebindings", reconcileClusterRoleBinding}.ensure(ctx, group, p.ClusterRoleBindings),
		ensurer[*rbacv1.Role]{env, "roles", reconcileRole}.ensure(ctx, group, p.Roles),
		ensurer[*rbacv1.RoleBinding]{env, "rolebindings", reconcileRoleBinding}.ensure(ctx, group, p.RoleBindings),
	} {
		if err != nil {
			_ = group.Wait()
			return err
		}
	}
	return group.Wait()
}

// verdict is what reconciling one object comes to.
type verdict int

const (
	keep verdict = iota
	update
	// recreate: what differs can't be changed in place (roleRef).
	recreate
	// create: there is none yet.
	create
)

// ensurer brings one resource up to the policy. reconcile changes current to what it should be; it is run once on
// a copy to see whether there is anything to write.
type ensurer[T object] struct {
	env       *registry.Env
	resource  string
	reconcile func(current, wanted T) verdict
}

// ensure starts the writes of what is missing or differs.
func (e ensurer[T]) ensure(ctx context.Context, group *errgroup.Group, wanted []T) error {
	store := e.env.Store(schema.GroupResource{Group: rbacv1.GroupName, Resource: e.resource})
	if store == nil {
		return fmt.Errorf("bootstrap policy: %s are not served", e.resource)
	}
	present, err := store.ListCached(ctx, "", nil)
	if err != nil {
		return fmt.Errorf("bootstrap policy: listing %s: %w", e.resource, err)
	}
	byKey := map[string]T{}
	for _, p := range present {
		if t, ok := p.(T); ok {
			byKey[t.GetNamespace()+"/"+t.GetName()] = t
		}
	}
	for _, w := range wanted {
		action := create
		if current, exists := byKey[w.GetNamespace()+"/"+w.GetName()]; exists {
			action = keep
			if current.GetAnnotations()[rbacv1.AutoUpdateAnnotationKey] != "false" {
				action = e.reconcile(current.DeepCopyObject().(T), w)
			}
		}
		if action == keep {
			continue
		}
		group.Go(func() error {
			if err := e.write(ctx, store, w, action); err != nil {
				return fmt.Errorf("bootstrap policy: %s %s: %w", e.resource, w.GetName(), err)
			}
			return nil
		})
	}
	return nil
}

func (e ensurer[T]) write(ctx context.Context, store *registry.Store, wanted T, action verdict) error {
	own := registry.Own()
	switch action {
	case update:
		_, _, err := store.Update(ctx, wanted.GetNamespace(), wanted.GetName(), func(current runtime.Object) (runtime.Object, error) {
			e.reconcile(current.(T), wanted)
			return current, nil
		}, own)
		return err
	case recreate:
		_, _, err := store.DeleteObject(ctx, wanted.GetNamespace(), wanted.GetName(), &metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	_, err := store.Create(ctx, wanted.GetNamespace(), wanted.DeepCopyObject(), own)
	if apierrors.IsAlreadyExists(err) {
		return nil // another apiserver was faster
	}
	return err
}

func reconcileClusterRole(current, wanted *rbacv1.ClusterRole) verdict {
	action := reconcileMeta(current, wanted)
	if wanted.AggregationRule == nil {
		return max(action, reconcileRules(&current.Rules, wanted.Rules))
	}
	// The rules of an aggregate are the aggregation controller's.
	if current.AggregationRule == nil {
		current.AggregationRule = wanted.AggregationRule
		return update
	}
	for _, selector := range wanted.AggregationRule.ClusterRoleSelectors {
		if !slices.ContainsFunc(current.AggregationRule.ClusterRoleSelectors, func(s metav1.LabelSelector) bool {
			return maps.Equal(s.MatchLabels, selector.MatchLabels)
		}) {
			current.AggregationRule.ClusterRoleSelectors = append(current.AggregationRule.ClusterRoleSelectors, selector)
			action = update
		}
	}
	return action
}

func reconcileRole(current, wanted *rbacv1.Role) verdict {
	return max(reconcileMeta(current, wanted), reconcileRules(&current.Rules, wanted.Rules))
}

func reconcileRules(current *[]rbacv1.PolicyRule, wanted []rbacv1.PolicyRule) verdict {
	missing := rbac.Missing(*current, wanted)
	if len(missing) == 0 {
		return keep
	}
	for _, rule := range wanted {
		if len(rbac.Missing(*current, []rbacv1.PolicyRule{rule})) > 0 {
			*current = append(*current, rule)
		}
	}
	return update
}

func reconcileClusterRoleBinding(current, wanted *rbacv1.ClusterRoleBinding) verdict {
	if current.RoleRef != wanted.RoleRef {
		return recreate
	}
	return max(reconcileMeta(current, wanted), reconcileSubjects(&current.Subjects, wanted.Subjects))
}

func reconcileRoleBinding(current, wanted *rbacv1.RoleBinding) verdict {
	if current.RoleRef != wanted.RoleRef {
		return recreate
	}
	return max(reconcileMeta(current, wanted), reconcileSubjects(&current.Subjects, wanted.Subjects))
}

func reconcileSubjects(current *[]rbacv1.Subject, wanted []rbacv1.Subject) verdict {
	action := keep
	for _, s := range wanted {
		if !slices.Contains(*current, s) {
			*current = append(*current, s)
			action = update
		}
	}
	return action
}

// reconcileMeta adds missing labels and annotations; those that have another value keep it.
func reconcileMeta(current, wanted metav1.Object) verdict {
	labels, moreLabels := union(current.GetLabels(), wanted.GetLabels())
	annotations, moreAnnotations := union(current.GetAnnotations(), wanted.GetAnnotations())
	if !moreLabels && !moreAnnotations {
		return keep
	}
	current.SetLabels(labels)
	current.SetAnnotations(annotations)
	return update
}

func union(have, wanted map[string]string) (map[string]string, bool) {
	more := false
	for key, value := range wanted {
		if _, ok := have[key]; !ok {
			if have == nil {
				have = map[string]string{}
			}
			have[key], more = value, true
		}
	}
	return have, more
}
