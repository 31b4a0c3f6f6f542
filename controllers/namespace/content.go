package namespace

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"hyperkube/flow"
)

// content is what one run found in a namespace.
type content struct {
	// discoveryErr: some kinds could not be learned; deleteErrs: some could not be
	// deleted or counted.
	discoveryErr error
	deleteErrs   []error
	// left and finalizers count objects that are still there, by kind and by the
	// finalizers that hold them.
	left       map[schema.GroupVersionResource]int
	finalizers map[string]int
}

func (c *content) remaining() bool { return len(c.left) > 0 }

func (c *content) err() error {
	return errors.Join(append([]error{c.discoveryErr}, c.deleteErrs...)...)
}

// resource is a kind of object that can be in a namespace, and how to delete it.
type resource struct {
	schema.GroupVersionResource
	deleteCollection bool
}

var podsResource = schema.GroupVersionResource{Version: "v1", Resource: "pods"}

// deleteAllContent asks for the deletion of everything in ns and counts what is
// left: pods first; the other kinds only when no pod is left.
func (nm *NamespaceController) deleteAllContent(ctx context.Context, ns *corev1.Namespace) *content {
	found := &content{left: map[schema.GroupVersionResource]int{}, finalizers: map[string]int{}}
	resources, err := nm.deletableResources()
	found.discoveryErr = err
	isPods := func(r resource) bool { return r.GroupVersionResource == podsResource }
	for _, r := range resources {
		if isPods(r) {
			nm.deleteAllContentForGroupVersionResource(ctx, r, ns.Name, found)
		}
	}
	if found.remaining() || len(found.deleteErrs) > 0 {
		return found
	}
	for _, r := range resources {
		if !isPods(r) {
			nm.deleteAllContentForGroupVersionResource(ctx, r, ns.Name, found)
		}
	}
	return found
}

// deletableResources are the namespaced kinds that discovery knows. Groups that do
// not answer come back as the error, the others all the same.
func (nm *NamespaceController) deletableResources() ([]resource, error) {
	lists, err := discovery.ServerPreferredNamespacedResources(nm.client.Discovery())
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return nil, err
	}
	var resources []resource
	for _, list := range lists {
		gv, parseErr := schema.ParseGroupVersion(list.GroupVersion)
		if parseErr != nil {
			err = errors.Join(err, parseErr)
			continue
		}
		for _, r := range list.APIResources {
			if strings.Contains(r.Name, "/") || !slices.Contains(r.Verbs, "delete") || !slices.Contains(r.Verbs, "list") {
				continue
			}
			resources = append(resources, resource{gv.WithResource(r.Name), slices.Contains(r.Verbs, "deletecollection")})
		}
	}
	return resources, err
}

// deleteAllContentForGroupVersionResource deletes one kind and counts what is
// left of it.
func (nm *NamespaceController) deleteAllContentForGroupVersionResource(ctx context.Context, r resource, namespace string, found *content) {
	api := nm.metadata.Resource(r.GroupVersionResource).Namespace(namespace)
	fail := func(err error) {
		found.deleteErrs = append(found.deleteErrs, fmt.Errorf("deleting all %s: %w", r.GroupResource(), err))
	}
	background := metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{PropagationPolicy: &background}
	if r.deleteCollection {
		// NotFound and MethodNotSupported: a kind that went, or whose server was wrong
		// about what it can do. The list below tells.
		err := api.DeleteCollection(ctx, options, metav1.ListOptions{})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsMethodNotSupported(err) {
			fail(err)
			return
		}
		r.deleteCollection = err == nil
	}
	items, err := api.List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
		return
	}
	if err != nil {
		fail(err)
		return
	}
	for i := range items.Items {
		item := &items.Items[i]
		if !r.deleteCollection {
			if err := api.Delete(ctx, item.Name, options); err != nil && !apierrors.IsNotFound(err) {
				fail(err)
			}
		}
		found.left[r.GroupVersionResource]++
		for _, finalizer := range item.Finalizers {
			found.finalizers[finalizer]++
		}
	}
}

// tell lets the record of the cluster know what is left.
func (c *content) tell(ctx context.Context, namespace string) {
	effect := flow.Effect{What: "namespace content", Kind: "Namespace", Name: namespace, Depth: 1, Detail: "all is gone"}
	if c.remaining() {
		effect.Detail = c.remainingMessage()
	}
	if len(c.finalizers) > 0 {
		effect.Lines = []string{c.finalizersMessage()}
	}
	if err := c.err(); err != nil {
		effect.Error = err.Error()
	}
	flow.Report(ctx, effect)
}

func (c *content) remainingMessage() string {
	var parts []string
	for _, gvr := range slices.SortedFunc(maps.Keys(c.left), func(a, b schema.GroupVersionResource) int { return strings.Compare(a.String(), b.String()) }) {
		parts = append(parts, fmt.Sprintf("%s.%s has %d resource instances", gvr.Resource, gvr.Group, c.left[gvr]))
	}
	return "Some resources are remaining: " + strings.Join(parts, ", ")
}

func (c *content) finalizersMessage() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(c.finalizers)) {
		parts = append(parts, fmt.Sprintf("%s in %d resource instances", name, c.finalizers[name]))
	}
	return "Some content in the namespace has finalizers remaining: " + strings.Join(parts, ", ")
}

// conditions are the namespace's conditions after this run.
func (c *content) conditions(before []corev1.NamespaceCondition, now metav1.Time) []corev1.NamespaceCondition {
	wanted := []corev1.NamespaceCondition{
		{Type: corev1.NamespaceDeletionDiscoveryFailure, Reason: "ResourcesDiscovered", Message: "All resources successfully discovered"},
		{Type: corev1.NamespaceDeletionGVParsingFailure, Reason: "ParsedGroupVersions", Message: "All legacy kube types successfully parsed"},
		{Type: corev1.NamespaceDeletionContentFailure, Reason: "ContentDeleted", Message: "All content successfully deleted, may be waiting on finalization"},
		{Type: corev1.NamespaceContentRemaining, Reason: "ContentRemoved", Message: "All content successfully removed"},
		{Type: corev1.NamespaceFinalizersRemaining, Reason: "ContentHasNoFinalizers", Message: "All content-preserving finalizers finished"},
	}
	set := func(i int, reason, message string) {
		wanted[i].Status, wanted[i].Reason, wanted[i].Message = corev1.ConditionTrue, reason, message
	}
	if c.discoveryErr != nil {
		set(0, "DiscoveryFailed", fmt.Sprintf("Discovery failed for some groups: %v", c.discoveryErr))
	}
	if len(c.deleteErrs) > 0 {
		set(2, "ContentDeletionFailed", fmt.Sprintf("Failed to delete all resource types, %d remaining: %v", len(c.deleteErrs), errors.Join(c.deleteErrs...)))
	}
	if len(c.left) > 0 {
		set(3, "SomeResourcesRemain", c.remainingMessage())
	}
	if len(c.finalizers) > 0 {
		set(4, "SomeFinalizersRemain", c.finalizersMessage())
	}
	result := slices.Clone(before)
	for _, condition := range wanted {
		if condition.Status == "" {
			condition.Status = corev1.ConditionFalse
		}
		condition.LastTransitionTime = now
		i := slices.IndexFunc(result, func(known corev1.NamespaceCondition) bool { return known.Type == condition.Type })
		if i < 0 {
			result = append(result, condition)
			continue
		}
		if result[i].Status == condition.Status {
			condition.LastTransitionTime = result[i].LastTransitionTime
		}
		result[i] = condition
	}
	return result
}
