package clients

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"hyperkube/test/integration"
)

// selectable is a kind with fields to select by beside its name: an object of it, and each label with the object's value.
var selectable = map[schema.GroupVersionResource]struct {
	object, status string
	fields         map[string]string
	// refusal is what a label that is none is answered with; %s is the label.
	refusal string
}{
	{Version: "v1", Resource: "pods"}: {
		object: "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {nodeName: n1, hostNetwork: true, restartPolicy: Never, schedulerName: s, serviceAccountName: default, automountServiceAccountToken: false, containers: [{name: c, image: i}]}}",
		status: "{phase: Running, podIPs: [{ip: 192.0.2.7}], podIP: 192.0.2.7}",
		fields: map[string]string{"spec.nodeName": "n1", "spec.host": "n1", "spec.hostNetwork": "true", "spec.restartPolicy": "Never", "spec.schedulerName": "s", "spec.serviceAccountName": "default",
			"status.phase": "Running", "status.podIP": "192.0.2.7", "status.podIPs": "", "status.nominatedNodeName": ""},
	},
	{Version: "v1", Resource: "nodes"}: {
		object: "{apiVersion: v1, kind: Node, metadata: {name: x}, spec: {unschedulable: true}}", fields: map[string]string{"spec.unschedulable": "true"},
	},
	{Version: "v1", Resource: "namespaces"}: {
		object: "{apiVersion: v1, kind: Namespace, metadata: {name: x}}", fields: map[string]string{"status.phase": "Active"},
	},
	{Version: "v1", Resource: "secrets"}: {
		object: "{apiVersion: v1, kind: Secret, metadata: {name: x}, type: example.com/t}", fields: map[string]string{"type": "example.com/t"},
	},
	{Version: "v1", Resource: "services"}: {
		object: "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {type: NodePort, clusterIP: 10.96.9.9, ports: [{port: 80}]}}",
		fields: map[string]string{"spec.clusterIP": "10.96.9.9", "spec.type": "NodePort"},
	},
	{Version: "v1", Resource: "replicationcontrollers"}: {
		object: "{apiVersion: v1, kind: ReplicationController, metadata: {name: x}, spec: {selector: {a: b}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}",
		status: "{replicas: 3}", fields: map[string]string{"status.replicas": "3"},
	},
	{Group: "batch", Version: "v1", Resource: "jobs"}: {
		object: "{apiVersion: batch/v1, kind: Job, metadata: {name: x}, spec: {completions: 3, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}",
		status: "{succeeded: 2}", fields: map[string]string{"status.successful": "2"}, refusal: "field label %q not supported for Job",
	},
	{Group: "certificates.k8s.io", Version: "v1", Resource: "certificatesigningrequests"}: {
		object: "{apiVersion: certificates.k8s.io/v1, kind: CertificateSigningRequest, metadata: {name: x}, spec: {signerName: example.com/s, usages: [client auth], request: " + certificateRequest + "}}",
		fields: map[string]string{"spec.signerName": "example.com/s"},
	},
	{Group: "certificates.k8s.io", Version: "v1", Resource: "clustertrustbundles"}: {
		object: "{apiVersion: certificates.k8s.io/v1, kind: ClusterTrustBundle, metadata: {name: 'example.com:s:x'}, spec: {signerName: example.com/s, trustBundle: \"" + authority + "\"}}",
		fields: map[string]string{"spec.signerName": "example.com/s"},
	},
	{Group: "certificates.k8s.io", Version: "v1", Resource: "podcertificaterequests"}: {
		object: "{apiVersion: certificates.k8s.io/v1, kind: PodCertificateRequest, metadata: {name: x}, spec: {signerName: example.com/s, podName: p, podUID: u, serviceAccountName: s, serviceAccountUID: u, nodeName: n1, nodeUID: u, stubPKCS10Request: " + stub + "}}",
		fields: map[string]string{"spec.signerName": "example.com/s", "spec.podName": "p", "spec.nodeName": "n1"},
	},
	{Group: "resource.k8s.io", Version: "v1", Resource: "resourceslices"}: {
		object: "{apiVersion: resource.k8s.io/v1, kind: ResourceSlice, metadata: {name: x}, spec: {driver: d.example.com, nodeName: n1, pool: {name: p, generation: 1, resourceSliceCount: 1}, devices: [{name: e}]}}",
		fields: map[string]string{"spec.driver": "d.example.com", "spec.nodeName": "n1", "spec.pool.name": "p"}, refusal: "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: %s",
	},
	{Version: "v1", Resource: "events"}: {
		object: "{apiVersion: v1, kind: Event, metadata: {name: x}, involvedObject: {kind: Pod, namespace: default, name: p, uid: u, apiVersion: v1, resourceVersion: '7', fieldPath: 'spec.containers{c}'}, reason: R, type: Normal, reportingComponent: c, source: {component: s}}",
		fields: map[string]string{"involvedObject.kind": "Pod", "involvedObject.namespace": "default", "involvedObject.name": "p", "involvedObject.uid": "u", "involvedObject.apiVersion": "v1",
			"involvedObject.resourceVersion": "7", "involvedObject.fieldPath": "spec.containers{c}", "reason": "R", "type": "Normal", "reportingComponent": "c", "source": "s"},
	},
	{Group: "events.k8s.io", Version: "v1", Resource: "events"}: {
		object: "{apiVersion: events.k8s.io/v1, kind: Event, metadata: {name: other}, eventTime: '2026-01-02T03:04:05.000006Z', reportingController: example.com/c, reportingInstance: i, action: A, reason: R, type: Warning, regarding: {kind: Pod, namespace: default, name: q, uid: v, apiVersion: v1}}",
		fields: map[string]string{"regarding.kind": "Pod", "regarding.namespace": "default", "regarding.name": "q", "regarding.uid": "v", "regarding.apiVersion": "v1", "regarding.resourceVersion": "", "regarding.fieldPath": "",
			"reason": "R", "type": "Warning", "reportingController": "example.com/c"},
	},
}

const certificateRequest = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIV01IOENBUUF3SFRFTk1Bc0dBMVVFQXd3RWFtRnVaVEVNTUFvR0ExVUVDZ3dEWkdWMk1Ga3dFd1lIS29aSQp6ajBDQVFZSUtvWkl6ajBEQVFjRFFnQUUwTm9maFplbXRKSVVqQXg1VXNKaThvSEZDdSt2bkZvTkJZWFhJcWNGClZmRkZVMWdBMHZtZ0FBVEJZTnR6cmlybVhtcDg3SFEyY3BReUF2YzhTY3h4NHFBQU1Bb0dDQ3FHU000OUJBTUMKQTBjQU1FUUNJQ2Z5WHBKbnZVUHcwY2pQRm1RNEhPTTVmQ3ZDZmNzS0xoZ1VleEJsa3Btc0FpQXlMdkVwVW11MwpVd3pYYkIxN2o1UGtFbHNJNjdJS2VBZ3A1Rm9qUyttNk1nPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg=="

// stub is an empty PKCS#10 request, authority a certificate that may sign others.
const (
	stub      = "MIG7MGICAQAwADBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABHcmxw4CRxg33dBiC/h21G9DMpNu02QD/T9A+ctglSpSHjJR93aeS38yQnzOK/rFWy+SZdiQe3wbxKw06cew3YygADAKBggqhkjOPQQDAgNJADBGAiEA9f2sSYjsqjtwlnxG61hV79eNN1Q1isieZyQUZgPZEI8CIQDcwG84+Qe1Vm5z/ViGMH6rlEa/TqBsvV3+1Vy7Aq8W1Q=="
	authority = `-----BEGIN CERTIFICATE-----\nMIIBOzCB4aADAgECAgEBMAoGCCqGSM49BAMCMAwxCjAIBgNVBAMTAWEwIBcNMjMx\nMTE0MjIxMzIwWhgPMjA5NjEwMDIwNzA2NDBaMAwxCjAIBgNVBAMTAWEwWTATBgcq\nhkjOPQIBBggqhkjOPQMBBwNCAAR3JscOAkcYN93QYgv4dtRvQzKTbtNkA/0/QPnL\nYJUqUh4yUfd2nkt/MkJ8ziv6xVsvkmXYkHt8G8SsNOnHsN2MozIwMDAPBgNVHRMB\nAf8EBTADAQH/MB0GA1UdDgQWBBRfsoNskkQfu4vMCnY/k24ujMDDODAKBggqhkjO\nPQQDAgNJADBGAiEAr6UueNUNiRJBobsWCTP/dWIysiCzH+N4bcSzqKgl2fACIQCu\nPFqNwKNuZ8e/lEhRFJiLDZNXKlgX4u4RV1NQ1y3OiQ==\n-----END CERTIFICATE-----\n`
)

// Every kind is selected by name, those that upstream gives more fields by these, in lists, watches and deletions alike; any
// other label is refused in upstream's words.
func TestFieldSelectors(t *testing.T) {
	cluster := integration.Start(t)
	client := dynamic.NewForConfigOrDie(cluster.Config)
	_, lists, err := cluster.Client.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			if !strings.Contains(r.Name, "/") && slices.Contains(r.Verbs, "list") {
				resource := gv.WithResource(r.Name)
				refusesUnknownLabels(t, client, resource, r)
				if _, has := selectable[resource]; has {
					seen++
					findsByFields(t, client, resource, r.Namespaced)
				}
			}
		}
	}
	if seen != len(selectable) {
		t.Errorf("%d of %d kinds with fields are served", seen, len(selectable))
	}
}

func refusesUnknownLabels(t *testing.T, client dynamic.Interface, resource schema.GroupVersionResource, r metav1.APIResource) {
	t.Helper()
	kind, own := selectable[resource]
	refused := []string{"spec.no"}
	if own && !r.Namespaced {
		refused = append(refused, "metadata.namespace")
	} else if _, err := client.Resource(resource).List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.namespace=none"}); err != nil {
		t.Errorf("%s by namespace: %v", resource, err)
	}
	if list, err := client.Resource(resource).List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=none"}); err != nil || len(list.Items) > 0 {
		t.Errorf("%s by name: %v", resource, err)
	}
	for _, label := range refused {
		want := fmt.Sprintf("%q is not a known field selector: only %q, %q", label, "metadata.name", "metadata.namespace")
		switch {
		case kind.refusal != "":
			want = fmt.Sprintf(kind.refusal, label)
		case own:
			want = "field label not supported: " + label
		}
		options := metav1.ListOptions{FieldSelector: label + "=x"}
		errs := map[string]error{}
		_, errs["list"] = client.Resource(resource).List(t.Context(), options)
		if slices.Contains(r.Verbs, "watch") {
			_, errs["watch"] = client.Resource(resource).Watch(t.Context(), options)
		}
		if slices.Contains(r.Verbs, "deletecollection") {
			of := dynamic.ResourceInterface(client.Resource(resource))
			if r.Namespaced {
				of = client.Resource(resource).Namespace("default")
			}
			errs["deletecollection"] = of.DeleteCollection(t.Context(), metav1.DeleteOptions{}, options)
		}
		for verb, err := range errs {
			if !apierrors.IsBadRequest(err) || message(err) != want {
				t.Errorf("%s %s by %s: %v, want %s", verb, resource, label, err, want)
			}
		}
	}
}

// message is what the server said, without what clients put before it.
func message(err error) string {
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		return status.Status().Message
	}
	return fmt.Sprint(err)
}

func findsByFields(t *testing.T, client dynamic.Interface, resource schema.GroupVersionResource, namespaced bool) {
	t.Helper()
	of := dynamic.ResourceInterface(client.Resource(resource))
	if namespaced {
		of = client.Resource(resource).Namespace("default")
	}
	object := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(selectable[resource].object), &object.Object); err != nil {
		t.Fatal(err)
	}
	if resource.Resource == "pods" {
		account := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": map[string]any{"name": "default"}}}
		if _, err := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}).Namespace("default").Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	made, err := of.Create(t.Context(), object, metav1.CreateOptions{})
	if err != nil {
		t.Errorf("%s: %v", resource, err)
		return
	}
	if status := selectable[resource].status; status != "" {
		patch, err := yaml.YAMLToJSON([]byte("{status: " + status + "}"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := of.Patch(t.Context(), made.GetName(), types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			t.Errorf("%s: %v", resource, err)
			return
		}
	}
	for label, value := range selectable[resource].fields {
		for operator, want := range map[string]bool{"=": true, "==": true, "!=": false} {
			if got := found(t, of, label+operator+value, made.GetName()); got != want {
				t.Errorf("%s by %s%s%s: found %v", resource, label, operator, value, got)
			}
		}
		if found(t, of, label+"=other", made.GetName()) {
			t.Errorf("%s by %s=other: it was found", resource, label)
		}
	}
}

// found says whether a list and a watch with the selector both have the object; they must agree.
func found(t *testing.T, of dynamic.ResourceInterface, selector, name string) bool {
	t.Helper()
	list, err := of.List(t.Context(), metav1.ListOptions{FieldSelector: selector})
	if err != nil {
		t.Error(err)
		return false
	}
	listed := slices.ContainsFunc(list.Items, func(u unstructured.Unstructured) bool { return u.GetName() == name })
	yes := true
	watcher, err := of.Watch(t.Context(), metav1.ListOptions{FieldSelector: selector, SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true})
	if err != nil {
		t.Error(err)
		return false
	}
	defer watcher.Stop()
	watched := false
	for event := range watcher.ResultChan() {
		if event.Type == watch.Bookmark {
			break
		}
		watched = watched || event.Object.(*unstructured.Unstructured).GetName() == name
	}
	if listed != watched {
		t.Errorf("by %s a list has %s: %v, a watch: %v", selector, name, listed, watched)
	}
	return listed
}
