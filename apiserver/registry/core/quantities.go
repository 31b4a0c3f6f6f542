package core

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"

	"hyperkube/api/core/limitrange"
	"hyperkube/api/core/resourcequota"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

// What bounds the resources of a namespace: limit ranges and quotas.

func limitRanges() registry.Resource {
	return registry.Resource{
		Name: "limitranges", Singular: "limitrange", Kind: v1.SchemeGroupVersion.WithKind("LimitRange"),
		ShortNames: []string{"limits"},
		New:        func() runtime.Object { return &v1.LimitRange{} },
		NewList:    func() runtime.Object { return &v1.LimitRangeList{} },
		Default:    typed.Default(limitrange.SetDefaults),
		Strategy: typed.Strategy[*v1.LimitRange]{
			Meta: registry.MetaRules{NameAgain: true},
			OnCreate: func(l *v1.LimitRange) {
				if l.Name == "" {
					l.Name = string(uuid.NewUUID())
				}
				dropNoLimits(l)
			},
			OnUpdate:       func(l, old *v1.LimitRange) { dropNoLimits(l) },
			CreateOnUpdate: true,
			Check:          limitrange.Validate,
		},
	}
}

// dropNoLimits: an answer shows limits that are none as null, however they were written.
func dropNoLimits(l *v1.LimitRange) {
	if len(l.Spec.Limits) == 0 {
		l.Spec.Limits = nil
	}
}

func resourceQuotas() registry.Resource {
	return registry.Resource{
		Name: "resourcequotas", Singular: "resourcequota", Kind: v1.SchemeGroupVersion.WithKind("ResourceQuota"),
		ShortNames: []string{"quota"}, ReturnDeletedObject: true,
		New:     func() runtime.Object { return &v1.ResourceQuota{} },
		NewList: func() runtime.Object { return &v1.ResourceQuotaList{} },
		Strategy: typed.Strategy[*v1.ResourceQuota]{
			OnCreate:    func(q *v1.ResourceQuota) { q.Status = v1.ResourceQuotaStatus{} },
			OnUpdate:    func(q, old *v1.ResourceQuota) { q.Status = old.Status },
			Check:       resourcequota.Validate,
			CheckUpdate: resourcequota.ValidateUpdate,
			Warn:        resourcequota.Warnings,
			WarnUpdate:  func(q, old *v1.ResourceQuota) []string { return nil },
		},
		StatusStrategy: typed.Strategy[*v1.ResourceQuota]{
			OnUpdate:    func(q, old *v1.ResourceQuota) { q.Spec = old.Spec },
			CheckUpdate: resourcequota.ValidateStatusUpdate,
		},
		Table: typed.Table(func(q *v1.ResourceQuota) []any {
			requests, limits := quotaCells(q)
			return []any{q.Name, requests, limits, column.Since(q.CreationTimestamp)}
		},
			column.Name(),
			column.Text("Request", "Request represents a minimum amount of cpu/memory that a container may consume."),
			column.Text("Limit", "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node."),
			column.Age(),
		),
	}
}

// quotaCells are "name: used/hard" for each resource, limits apart.
func quotaCells(q *v1.ResourceQuota) (requests, limits string) {
	var names []string
	for name := range q.Status.Hard {
		names = append(names, string(name))
	}
	slices.Sort(names)
	var requestCells, limitCells []string
	for _, name := range names {
		hard, used := q.Status.Hard[v1.ResourceName(name)], q.Status.Used[v1.ResourceName(name)]
		cell := fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String())
		if strings.HasPrefix(name, "limits") {
			limitCells = append(limitCells, cell)
		} else {
			requestCells = append(requestCells, cell)
		}
	}
	return strings.Join(requestCells, ", "), strings.Join(limitCells, ", ")
}
