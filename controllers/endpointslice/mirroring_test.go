package endpointslice

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

func byHand(change ...func(*corev1.Endpoints)) *corev1.Endpoints {
	e := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db", UID: "ep", Labels: map[string]string{"team": "a"},
			Annotations: map[string]string{"note": "x", corev1.LastAppliedConfigAnnotation: "{}"}},
		Subsets: []corev1.EndpointSubset{{
			Addresses:         []corev1.EndpointAddress{{IP: "10.0.0.2"}, {IP: "10.0.0.1", Hostname: "h"}, {IP: "fd00::1"}},
			NotReadyAddresses: []corev1.EndpointAddress{{IP: "10.0.0.3"}},
			Ports:             []corev1.EndpointPort{{Name: "sql", Port: 5432, Protocol: corev1.ProtocolTCP}},
		}},
	}
	for _, c := range change {
		c(e)
	}
	return e
}

func told(list []*discovery.EndpointSlice) string {
	var all []string
	for _, s := range list {
		said := fmt.Sprint(s.AddressType, " ", *s.Ports[0].Port, ":")
		for _, e := range s.Endpoints {
			said += fmt.Sprint(" ", e.Addresses[0], "=", *e.Conditions.Ready)
		}
		all = append(all, said)
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// One slice for each family and set of ports, with the labels and annotations, and an owner.
func TestMirror(t *testing.T) {
	list, skipped := mirror(byHand())
	if got, want := told(list), "IPv4 5432: 10.0.0.1=true 10.0.0.2=true 10.0.0.3=false; IPv6 5432: fd00::1=true"; got != want || skipped != (skippedAddresses{}) {
		t.Errorf("%s, skipped %v; want %s", got, skipped, want)
	}
	s := list[0]
	if got := fmt.Sprint(s.Labels, s.Annotations, s.GenerateName); got !=
		"map[endpointslice.kubernetes.io/managed-by:endpointslicemirroring-controller.k8s.io kubernetes.io/service-name:db team:a] map[note:x]db-" {
		t.Errorf("labels, annotations and name: %s", got)
	}
	if ref := metav1.GetControllerOf(s); ref == nil || ref.Kind != "Endpoints" || ref.UID != "ep" {
		t.Errorf("owner %v", ref)
	}
	list, skipped = mirror(byHand(func(e *corev1.Endpoints) {
		e.Subsets[0].Addresses = nil
		for i := range 1100 {
			e.Subsets[0].Addresses = append(e.Subsets[0].Addresses, corev1.EndpointAddress{IP: fmt.Sprintf("10.1.%d.%d", i/250, i%250)})
		}
		e.Subsets[0].Addresses[0].IP = "nonsense"
	}))
	if len(list) != 1 || len(list[0].Endpoints) != maxMirrored || skipped != (skippedAddresses{1, 100}) {
		t.Errorf("%d slices, skipped %v; want one of %d, 1 invalid and 100 too many", len(list), skipped, maxMirrored)
	}
}

// What is mirrored, and what of it stays when that changes.
func TestMirroringThroughTime(t *testing.T) {
	client := fake.NewClientset()
	factory := informers.NewSharedInformerFactory(client, 0)
	events := record.NewFakeRecorder(10)
	c := NewMirroring(client, factory, events, reconcile.Options{})
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db"}}
	set := func(e *corev1.Endpoints, s *corev1.Service) string {
		t.Helper()
		core, slicesOf := factory.Core().V1(), factory.Discovery().V1().EndpointSlices().Informer().GetIndexer()
		_ = core.Endpoints().Informer().GetIndexer().Replace([]any{e}, "")
		_ = core.Services().Informer().GetIndexer().Replace([]any{s}, "")
		if _, err := c.syncEndpoints(context.Background(), "ns/db"); err != nil {
			t.Fatal(err)
		}
		written, err := client.DiscoveryV1().EndpointSlices("ns").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var all []any
		var list []*discovery.EndpointSlice
		for i := range written.Items {
			all, list = append(all, &written.Items[i]), append(list, &written.Items[i])
		}
		_ = slicesOf.Replace(all, "")
		return told(list)
	}
	four := func(e *corev1.Endpoints) {
		e.Subsets[0].Addresses, e.Subsets[0].NotReadyAddresses = []corev1.EndpointAddress{{IP: "10.0.0.1"}}, nil
	}
	port := func(e *corev1.Endpoints) { e.Subsets[0].Ports[0].Port = 3306 }
	withSelector := service.DeepCopy()
	withSelector.Spec.Selector = map[string]string{"a": "b"}
	for _, step := range []struct {
		name    string
		e       *corev1.Endpoints
		service *corev1.Service
		want    string
	}{
		{"mirrored", byHand(four), service, "IPv4 5432: 10.0.0.1=true"},
		{"another port", byHand(four, port), service, "IPv4 3306: 10.0.0.1=true"},
		{"the Service has a selector", byHand(four), withSelector, ""},
		{"no longer", byHand(four), service, "IPv4 5432: 10.0.0.1=true"},
		{"not to be mirrored", byHand(four, func(e *corev1.Endpoints) { e.Labels[discovery.LabelSkipMirror] = "true" }), service, ""},
		{"a lock", byHand(four, func(e *corev1.Endpoints) { e.Annotations[leaderAnnotation] = "{}" }), service, ""},
		{"nonsense", byHand(four, func(e *corev1.Endpoints) { e.Subsets[0].Addresses[0].IP = "x" }), service, ""},
	} {
		if got := set(step.e, step.service); got != step.want {
			t.Errorf("%s: %q, want %q", step.name, got, step.want)
		}
	}
	if e := <-events.Events; e != "Warning InvalidIPAddress Skipped 1 invalid IP addresses when mirroring to EndpointSlices" {
		t.Errorf("event %q", e)
	}
	for _, action := range client.Actions() {
		if action.GetVerb() == "update" {
			return // the changed port rewrote the slice
		}
	}
	t.Error("no slice was rewritten")
}
