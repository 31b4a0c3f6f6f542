// Package resource is the table of resource.k8s.io/v1: devices, and claims to them.
//
// In Kubernetes: pkg/registry/resource.
package resource

import (
	"fmt"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/resource/device"
	"hyperkube/api/resource/resourceclaim"
	"hyperkube/api/resource/resourceslice"
	"hyperkube/apiserver/cel"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

// Resources is the table of resource.k8s.io/v1.
func Resources(env *registry.Env) []registry.Resource {
	return []registry.Resource{deviceClasses(), deviceTaintRules(env), resourceClaims(env), resourceClaimTemplates(env), resourceSlices(env)}
}

func kind(name string) schema.GroupVersionKind { return resourcev1.SchemeGroupVersion.WithKind(name) }

func deviceClasses() registry.Resource {
	type object = resourcev1.DeviceClass
	return registry.Resource{
		Name: "deviceclasses", Singular: "deviceclass", Kind: kind("DeviceClass"), ClusterScoped: true, ReturnDeletedObject: true,
		New:     func() runtime.Object { return &object{} },
		NewList: func() runtime.Object { return &resourcev1.DeviceClassList{} },
		Strategy: typed.Strategy[*object]{
			OnCreate: func(c *object) { c.Generation = 1 },
			OnUpdate: func(c, old *object) { typed.Bump(c, c.Spec, old.Spec) },
			Check:    func(c *object) field.ErrorList { return device.ValidateClass(c, cel.Device) },
			CheckUpdate: func(c, old *object) field.ErrorList {
				return device.ValidateClassUpdate(c, old, cel.Device)
			},
		},
		Table: typed.Table(func(c *object) []any { return []any{c.Name, column.Since(c.CreationTimestamp)} }, column.Name(), column.Age()),
	}
}

func deviceTaintRules(env *registry.Env) registry.Resource {
	type object = resourcev1.DeviceTaintRule
	now := func() metav1.Time { return metav1.NewTime(env.Clock.Now()) }
	return registry.Resource{
		Name: "devicetaintrules", Singular: "devicetaintrule", Kind: kind("DeviceTaintRule"), ClusterScoped: true,
		New:     func() runtime.Object { return &object{} },
		NewList: func() runtime.Object { return &resourcev1.DeviceTaintRuleList{} },
		Strategy: typed.Strategy[*object]{
			Conditional: true,
			OnCreate: func(r *object) {
				r.Status, r.Generation = resourcev1.DeviceTaintRuleStatus{}, 1
				device.StampTaint(&r.Spec.Taint, now())
			},
			OnUpdate: func(r, old *object) {
				r.Status = old.Status
				device.RestampTaint(&r.Spec.Taint, &old.Spec.Taint, now())
				typed.Bump(r, r.Spec, old.Spec)
			},
			Check:       func(r *object) field.ErrorList { return device.ValidateTaintRule(r, nil) },
			CheckUpdate: device.ValidateTaintRule,
		},
		Resets: map[string][]string{"status": {"metadata"}},
		StatusStrategy: typed.Strategy[*object]{
			Conditional: true,
			OnUpdate: func(r, old *object) {
				r.Spec = old.Spec
				metav1.ResetObjectMetaForStatus(r, old)
			},
			CheckUpdate: device.ValidateTaintRuleStatus,
		},
		Table: typed.Table(func(r *object) []any {
			taint, added := r.Spec.Taint, ""
			if taint.TimeAdded != nil {
				added = column.Since(*taint.TimeAdded)
			}
			return []any{r.Name, taint.Key, taint.Value, string(taint.Effect), added, column.Since(r.CreationTimestamp)}
		},
			column.Name(),
			column.Text("Key", resourcev1.DeviceTaint{}.SwaggerDoc()["key"]),
			column.Text("Value", resourcev1.DeviceTaint{}.SwaggerDoc()["value"]),
			column.Text("Effect", resourcev1.DeviceTaint{}.SwaggerDoc()["effect"]),
			column.Text("TimeAdded", resourcev1.DeviceTaint{}.SwaggerDoc()["timeAdded"]),
			column.Age(),
		),
	}
}

func resourceClaims(env *registry.Env) registry.Resource {
	type object = resourcev1.ResourceClaim
	return registry.Resource{
		Name: "resourceclaims", Singular: "resourceclaim", Kind: kind("ResourceClaim"), ReturnDeletedObject: true,
		New:     func() runtime.Object { return &object{} },
		NewList: func() runtime.Object { return &resourcev1.ResourceClaimList{} },
		Default: typed.Default(func(c *object) {
			resourceclaim.SetDefaults(&c.Spec)
			resourceclaim.SetDefaultsStatus(&c.Status)
		}),
		Strategy: claimStrategy{env, typed.Strategy[*object]{
			Meta: registry.MetaRules{NameAgain: true},
			OnCreate: func(c *object) {
				c.Status = resourcev1.ResourceClaimStatus{}
				resourceclaim.DropAlpha(&c.Spec)
			},
			OnUpdate: func(c, old *object) {
				c.Status = old.Status
				resourceclaim.DropAlpha(&c.Spec)
			},
			Check:       func(c *object) field.ErrorList { return resourceclaim.Validate(c, cel.Device) },
			CheckUpdate: resourceclaim.ValidateUpdate,
		}},
		Resets: map[string][]string{"status": {"metadata"}},
		StatusStrategy: claimStatusStrategy{env, typed.Strategy[*object]{
			OnUpdate: func(c, old *object) {
				c.Spec = old.Spec
				// Finalizers may change with the status: who allocates protects what it has allocated.
				finalizers := c.Finalizers
				metav1.ResetObjectMetaForStatus(c, old)
				c.Finalizers = finalizers
				resourceclaim.DropAlphaStatus(&c.Status)
				resourceclaim.DropDeallocated(c, old)
			},
			CheckUpdate: resourceclaim.ValidateStatusUpdate,
		}},
		Table: typed.Table(func(c *object) []any { return []any{c.Name, state(c), column.Since(c.CreationTimestamp)} },
			column.Name(), column.Text("State", "A summary of the current state (allocated, pending, reserved, etc.)."), column.Age()),
	}
}

func state(c *resourcev1.ResourceClaim) string {
	var words []string
	if c.DeletionTimestamp != nil {
		words = append(words, "deleted")
	}
	switch {
	case c.Status.Allocation == nil && c.DeletionTimestamp == nil:
		words = append(words, "pending")
	case c.Status.Allocation != nil:
		words = append(words, "allocated")
		if len(c.Status.ReservedFor) > 0 {
			words = append(words, "reserved")
		}
	}
	return strings.Join(words, ",")
}

func resourceClaimTemplates(env *registry.Env) registry.Resource {
	type object = resourcev1.ResourceClaimTemplate
	return registry.Resource{
		Name: "resourceclaimtemplates", Singular: "resourceclaimtemplate", Kind: kind("ResourceClaimTemplate"), ReturnDeletedObject: true,
		New:     func() runtime.Object { return &object{} },
		NewList: func() runtime.Object { return &resourcev1.ResourceClaimTemplateList{} },
		Default: typed.Default(func(t *object) { resourceclaim.SetDefaults(&t.Spec.Spec) }),
		Strategy: templateStrategy{env, typed.Strategy[*object]{
			Meta:     registry.MetaRules{NameAgain: true},
			OnCreate: func(t *object) { resourceclaim.DropAlpha(&t.Spec.Spec) },
			OnUpdate: func(t, _ *object) { resourceclaim.DropAlpha(&t.Spec.Spec) },
			Check:    func(t *object) field.ErrorList { return resourceclaim.ValidateTemplate(t, cel.Device) },
			CheckUpdate: func(t, old *object) field.ErrorList {
				return append(resourceclaim.ValidateTemplate(t, cel.Device), resourceclaim.ValidateTemplateUpdate(t, old)...)
			},
		}},
		Table: typed.Table(func(t *object) []any { return []any{t.Name, column.Since(t.CreationTimestamp)} }, column.Name(), column.Age()),
	}
}

func resourceSlices(env *registry.Env) registry.Resource {
	type object = resourcev1.ResourceSlice
	return registry.Resource{
		Name: "resourceslices", Singular: "resourceslice", Kind: kind("ResourceSlice"), ClusterScoped: true, ReturnDeletedObject: true,
		New:     func() runtime.Object { return &object{} },
		NewList: func() runtime.Object { return &resourcev1.ResourceSliceList{} },
		Strategy: typed.Strategy[*object]{
			OnCreate: func(s *object) {
				s.Generation = 1
				resourceslice.DropAlpha(s)
				resourceslice.StampTaints(s, metav1.NewTime(env.Clock.Now()))
			},
			OnUpdate: func(s, old *object) {
				// Before the alpha fields are dropped: upstream counts a wish for them as a change.
				typed.Bump(s, s.Spec, old.Spec)
				resourceslice.DropAlpha(s)
				resourceslice.StampTaints(s, metav1.NewTime(env.Clock.Now()))
			},
			Check:       resourceslice.Validate,
			CheckUpdate: resourceslice.ValidateUpdate,
			Warn:        resourceslice.Warnings,
		},
		Fields: typed.Fields(func(s *object) fields.Set {
			return fields.Set{
				resourcev1.ResourceSliceSelectorNodeName: ptr.Deref(s.Spec.NodeName, ""),
				resourcev1.ResourceSliceSelectorDriver:   s.Spec.Driver,
				resourcev1.ResourceSliceSelectorPoolName: s.Spec.Pool.Name,
			}
		}),
		Selects: func(label string) (string, error) {
			switch label {
			case "metadata.name", resourcev1.ResourceSliceSelectorNodeName, resourcev1.ResourceSliceSelectorDriver, resourcev1.ResourceSliceSelectorPoolName:
				return label, nil
			}
			return "", fmt.Errorf("field label not supported for %s: %s", resourcev1.SchemeGroupVersion.WithKind("ResourceSlice"), label)
		},
		Table: typed.Table(func(s *object) []any {
			return []any{s.Name, ptr.Deref(s.Spec.NodeName, ""), s.Spec.Driver, s.Spec.Pool.Name, column.Since(s.CreationTimestamp)}
		},
			column.Name(),
			column.Text("Node", resourcev1.ResourceSliceSpec{}.SwaggerDoc()["nodeName"]),
			column.Text("Driver", resourcev1.ResourceSliceSpec{}.SwaggerDoc()["driver"]),
			column.Text("Pool", resourcev1.ResourcePool{}.SwaggerDoc()["name"]),
			column.Age(),
		),
	}
}
