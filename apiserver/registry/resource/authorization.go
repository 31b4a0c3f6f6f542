package resource

import (
	"context"
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/resource/resourceclaim"
	"hyperkube/apiserver/authn/serviceaccount"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/typed"
	"hyperkube/apiserver/request"
)

// The rules of this file depend on more than the object: on its namespace, and on who writes it.

// claimStrategy lets administrative access be asked for only where the namespace allows it.
type claimStrategy struct {
	env *registry.Env
	typed.Strategy[*resourcev1.ResourceClaim]
}

func (s claimStrategy) Validate(ctx context.Context, obj runtime.Object) field.ErrorList {
	c := obj.(*resourcev1.ResourceClaim)
	return append(authorizedForAdmin(ctx, s.env, c.Namespace, adminRequest(&c.Spec)), s.Strategy.Validate(ctx, obj)...)
}

// templateStrategy is claimStrategy for the claim in a template.
type templateStrategy struct {
	env *registry.Env
	typed.Strategy[*resourcev1.ResourceClaimTemplate]
}

func (s templateStrategy) Validate(ctx context.Context, obj runtime.Object) field.ErrorList {
	t := obj.(*resourcev1.ResourceClaimTemplate)
	return append(authorizedForAdmin(ctx, s.env, t.Namespace, adminRequest(&t.Spec.Spec)), s.Strategy.Validate(ctx, obj)...)
}

// adminRequest is the first request that asks for administrative access; nil: none does. In a template, too, the path is the
// claim's.
func adminRequest(spec *resourcev1.ResourceClaimSpec) *field.Path {
	for i, r := range spec.Devices.Requests {
		if r.Exactly != nil && ptr.Deref(r.Exactly.AdminAccess, false) {
			return field.NewPath("spec", "devices", "requests").Index(i).Child("adminAccess")
		}
	}
	return nil
}

func adminResult(a *resourcev1.AllocationResult) *field.Path {
	if a == nil {
		return nil
	}
	for i, r := range a.Devices.Results {
		if ptr.Deref(r.AdminAccess, false) {
			return field.NewPath("status", "allocation", "devices", "results").Index(i).Child("adminAccess")
		}
	}
	return nil
}

// authorizedForAdmin asks the namespace whether devices that others use may be reached too.
func authorizedForAdmin(ctx context.Context, env *registry.Env, namespace string, path *field.Path) field.ErrorList {
	if path == nil {
		return nil
	}
	obj, err := env.Lister(schema.GroupResource{Resource: "namespaces"}).Get(ctx, "", namespace)
	if err != nil {
		return field.ErrorList{field.InternalError(path, fmt.Errorf("could not retrieve namespace to verify admin access: %w", err))}
	}
	if obj.(*v1.Namespace).Labels[resourcev1.DRAAdminNamespaceLabelKey] == "true" {
		return nil
	}
	return field.ErrorList{field.Forbidden(path, fmt.Sprintf("admin access to devices requires the `%s: true` label on the containing namespace", resourcev1.DRAAdminNamespaceLabelKey))}
}

// claimStatusStrategy: who may write the status may not yet write all of it. Allocating needs resourceclaims/binding; saying
// something of a driver's devices needs resourceclaims/driver for that driver, by one verb for its own node and another for all.
// Otherwise each driver could allocate, and speak for the others. (Upstream: DRAResourceClaimGranularStatusAuthorization.)
type claimStatusStrategy struct {
	env *registry.Env
	typed.Strategy[*resourcev1.ResourceClaim]
}

func (s claimStatusStrategy) ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	c, before := obj.(*resourcev1.ResourceClaim), old.(*resourcev1.ResourceClaim)
	var errs field.ErrorList
	if adminResult(before.Status.Allocation) == nil {
		errs = authorizedForAdmin(ctx, s.env, c.Namespace, adminResult(c.Status.Allocation))
	}
	errs = append(errs, s.authorizedForBinding(ctx, c, before)...)
	errs = append(errs, s.authorizedForDeviceStatus(ctx, c, before)...)
	return append(errs, s.Strategy.ValidateUpdate(ctx, obj, old)...)
}

func (s claimStatusStrategy) authorizedForBinding(ctx context.Context, c, old *resourcev1.ResourceClaim) field.ErrorList {
	same := equality.Semantic.DeepEqual(c.Status.Allocation, old.Status.Allocation) &&
		equality.Semantic.DeepEqual(c.Status.ReservedFor, old.Status.ReservedFor)
	if same || s.may(ctx, "", resourcev1.SubresourceBinding, c.Namespace, c.Name) {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("status"), "changing status.allocation or status.reservedFor requires extra permission")}
}

func (s claimStatusStrategy) authorizedForDeviceStatus(ctx context.Context, c, old *resourcev1.ResourceClaim) field.ErrorList {
	// What goes with its allocation needs no driver's permission.
	left := old.DeepCopy()
	left.Status.Allocation = c.Status.Allocation
	resourceclaim.DropDeallocated(left, old)
	now, then := byDriver(c.Status.Devices), byDriver(left.Status.Devices)
	all := maps.Clone(now)
	maps.Copy(all, then)
	allocation := c.Status.Allocation
	if allocation == nil {
		allocation = old.Status.Allocation
	}
	local := isLocal(request.UserFrom(ctx), nodeNameFromAllocation(allocation))
	var errs field.ErrorList
	for _, driver := range slices.Sorted(maps.Keys(all)) {
		if equality.Semantic.DeepEqual(now[driver], then[driver]) ||
			local && s.may(ctx, resourcev1.VerbPrefixAssociatedNode, resourcev1.SubresourceDriver, c.Namespace, driver) ||
			s.may(ctx, resourcev1.VerbPrefixArbitraryNode, resourcev1.SubresourceDriver, c.Namespace, driver) {
			continue
		}
		errs = append(errs, field.Forbidden(field.NewPath("status", "devices"), "changing status.devices requires extra permission"))
	}
	return errs
}

func byDriver(devices []resourcev1.AllocatedDeviceStatus) map[string][]resourcev1.AllocatedDeviceStatus {
	all := map[string][]resourcev1.AllocatedDeviceStatus{}
	for _, d := range devices {
		all[d.Driver] = append(all[d.Driver], d)
	}
	return all
}

// may asks whether the writer may do what it does ("update", "patch"), or that with a prefix, to a part of claims that is no
// path of the API.
func (s claimStatusStrategy) may(ctx context.Context, prefix, part, namespace, name string) bool {
	verb := "update"
	if info := request.InfoFrom(ctx); info != nil && info.Verb == "patch" {
		verb = info.Verb
	}
	decision, _, _ := s.env.Authorizer.Authorize(ctx, request.Attributes{
		User: request.UserFrom(ctx), Verb: prefix + verb, APIGroup: resourcev1.GroupName, APIVersion: "v1",
		Resource: "resourceclaims", Subresource: part, Namespace: namespace, Name: name, ResourceRequest: true,
	})
	return decision == request.Allow
}

// nodeNameFromAllocation is the one node at which the devices are; "" where they are reached from several.
func nodeNameFromAllocation(a *resourcev1.AllocationResult) string {
	if a == nil || a.NodeSelector == nil || len(a.NodeSelector.NodeSelectorTerms) != 1 {
		return ""
	}
	term := a.NodeSelector.NodeSelectorTerms[0]
	if len(term.MatchExpressions) > 0 || len(term.MatchFields) != 1 {
		return ""
	}
	f := term.MatchFields[0]
	if f.Key != metav1.ObjectNameField || f.Operator != v1.NodeSelectorOpIn || len(f.Values) != 1 {
		return ""
	}
	return f.Values[0]
}

// isLocal: the writer is a service account whose token was made for a pod of that node.
func isLocal(user *request.User, node string) bool {
	if user == nil || node == "" {
		return false
	}
	_, _, account := serviceaccount.SplitUsername(user.Name)
	names := user.Extra[serviceaccount.NodeNameKey]
	return account && len(names) == 1 && names[0] == node && len(validation.IsDNS1123Subdomain(node)) == 0
}
