package dns

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/tools/cache"
	utilnet "k8s.io/utils/net"

	"hyperkube/flow"
	"hyperkube/reconcile"
)

// reportChanges tells the record of the cluster which names changed their addresses. The
// zone keeps no records: they are computed when somebody asks. What is reported is what an
// answer would say now and would not have said before.
func (z *zone) reportChanges(ctx context.Context) error {
	if flow.SinkFrom(ctx) == nil {
		return nil
	}
	services := z.factory.Core().V1().Services().Informer()
	slices := z.factory.Discovery().V1().EndpointSlices().Informer()
	for informer, records := range map[cache.SharedIndexInformer]func(any) []string{services: z.serviceRecords, slices: z.sliceRecords} {
		if _, err := informer.AddEventHandler(changeHandler(ctx, records)); err != nil {
			return err
		}
	}
	return nil
}

// changeHandler reports each change after the first list: what is there at the start did
// not change.
func changeHandler(ctx context.Context, records func(any) []string) cache.ResourceEventHandler {
	changed := reconcile.HandlerOf(func(e reconcile.Event) { tellRecords(ctx, e, records) })
	return cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(object any, isInInitialList bool) {
			if !isInInitialList {
				changed.OnAdd(object, false)
			}
		},
		UpdateFunc: changed.OnUpdate,
		DeleteFunc: changed.OnDelete,
	}
}

func tellRecords(ctx context.Context, e reconcile.Event, records func(any) []string) {
	var before, after []string
	if e.Old != nil {
		before = records(e.Old)
	}
	if e.New != nil {
		after = records(e.New)
	}
	added, removed := sets.New(after...).Delete(before...), sets.New(before...).Delete(after...)
	if len(added)+len(removed) == 0 {
		return
	}
	effect := flow.Effect{What: "names changed", Detail: fmt.Sprintf("%d records added, %d removed", len(added), len(removed))}
	for _, record := range sets.List(added) {
		effect.Lines = append(effect.Lines, "+ "+record)
	}
	for _, record := range sets.List(removed) {
		effect.Lines = append(effect.Lines, "- "+record)
	}
	flow.Report(reconcile.BecauseOf(ctx, e), effect)
}

// serviceRecords are those that a Service has without its endpoints.
func (z *zone) serviceRecords(object any) []string {
	service := object.(*corev1.Service)
	name := service.Name + "." + service.Namespace + ".svc." + z.domain
	if service.Spec.Type == corev1.ServiceTypeExternalName {
		return []string{name + " CNAME " + service.Spec.ExternalName}
	}
	var records []string
	for _, address := range service.Spec.ClusterIPs {
		if address != corev1.ClusterIPNone {
			records = append(records, addressRecord(name, address))
		}
	}
	return records
}

// sliceRecords are those that a headless Service has by one of its slices.
func (z *zone) sliceRecords(object any) []string {
	slice := object.(*discoveryv1.EndpointSlice)
	serviceName := slice.Labels[discoveryv1.LabelServiceName]
	known, exists, err := z.services.GetByKey(slice.Namespace + "/" + serviceName)
	if err != nil || !exists || !slices.Contains(known.(*corev1.Service).Spec.ClusterIPs, corev1.ClusterIPNone) {
		return nil
	}
	var records []string
	for _, endpoint := range slice.Endpoints {
		if endpoint.Conditions.Ready != nil && !*endpoint.Conditions.Ready && !known.(*corev1.Service).Spec.PublishNotReadyAddresses {
			continue
		}
		for _, address := range endpoint.Addresses {
			name := serviceName + "." + slice.Namespace + ".svc." + z.domain
			if endpoint.Hostname != nil && *endpoint.Hostname != "" {
				name = *endpoint.Hostname + "." + name
			}
			records = append(records, addressRecord(name, address))
		}
	}
	return records
}

func addressRecord(name, address string) string {
	if utilnet.IsIPv6String(address) {
		return name + " AAAA " + address
	}
	return name + " A " + address
}
