// Package clusterroleaggregation fills the rules of ClusterRoles that are made of
// others: admin, edit and view, and whoever else has an aggregationRule.
//
//	ClusterRole, any ─► keys of all aggregates ─► syncClusterRole ─► UPDATE rules
//
// The rules of an aggregate are the union of those of the roles that its selectors
// match; what someone wrote into them is overwritten. So a chart that brings a
// custom resource can let every editor edit it, with one label.
//
// # In Kubernetes
//
// pkg/controller/clusterroleaggregation/clusterroleaggregation_controller.go
// (ClusterRoleAggregationController), which writes by server-side apply; the
// result is the same.
package clusterroleaggregation

import (
	"cmp"
	"context"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	rbaclisters "k8s.io/client-go/listers/rbac/v1"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// Controller is the loop over ClusterRoles that have an aggregationRule.
type Controller struct {
	*reconcile.Loop
	client kubernetes.Interface
	lister rbaclisters.ClusterRoleLister
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, options reconcile.Options) *Controller {
	roles := factory.Rbac().V1().ClusterRoles()
	c := &Controller{client: client, lister: roles.Lister()}
	c.Loop = reconcile.New("clusterroleaggregation", c.syncClusterRole, options)
	c.Watch(roles.Informer(), c.aggregates)
	return c
}

// aggregates are all of them: any role may have become, or ceased to be, part of any.
func (c *Controller) aggregates(reconcile.Event) []string {
	roles, err := c.lister.List(labels.Everything())
	if err != nil {
		return nil
	}
	var keys []string
	for _, role := range roles {
		if role.AggregationRule != nil {
			keys = append(keys, role.Name)
		}
	}
	return keys
}

func (c *Controller) syncClusterRole(ctx context.Context, name string) (reconcile.Result, error) {
	role, err := c.lister.Get(name)
	if apierrors.IsNotFound(err) || err == nil && role.AggregationRule == nil {
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	rules, err := c.collectRules(role)
	if err != nil {
		return reconcile.Done, err
	}
	if equality.Semantic.DeepEqual(role.Rules, rules) {
		return reconcile.Done, nil
	}
	updated := role.DeepCopy()
	updated.Rules = rules
	_, err = c.client.RbacV1().ClusterRoles().Update(ctx, updated, metav1.UpdateOptions{})
	return reconcile.Done, err
}

// collectRules is the union of the selected roles' rules, in the order of their
// names, so that it is the same for the same roles.
func (c *Controller) collectRules(role *rbacv1.ClusterRole) ([]rbacv1.PolicyRule, error) {
	var rules []rbacv1.PolicyRule
	for i := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, err
		}
		parts, err := c.lister.List(selector)
		if err != nil {
			return nil, err
		}
		slices.SortFunc(parts, func(a, b *rbacv1.ClusterRole) int { return cmp.Compare(a.Name, b.Name) })
		for _, part := range parts {
			if part.Name == role.Name {
				continue // or it would keep what its parts no longer have
			}
			for _, rule := range part.Rules {
				if !slices.ContainsFunc(rules, func(known rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(known, rule) }) {
					rules = append(rules, *rule.DeepCopy())
				}
			}
		}
	}
	return rules, nil
}
