package typed_test

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"hyperkube/test/integration"
)

const podTemplate = `{metadata: {labels: {app: a}}, spec: {containers: [{name: a, image: a}]}}`
const jobTemplate = `{spec: {restartPolicy: Never, containers: [{name: a, image: a}]}}`
const hookRule = `{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods]}`
const hook = `{name: a.example.com, clientConfig: {service: {namespace: a, name: a}}, sideEffects: None, admissionReviewVersions: [v1], rules: [` + hookRule + `]}`
const workload = `selector: {matchLabels: {app: a}}, template: ` + podTemplate

// stub is an empty PKCS#10 request, authority a certificate that may sign others.
const stub = `MIG7MGICAQAwADBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABHcmxw4CRxg33dBiC/h21G9DMpNu02QD/T9A+ctglSpSHjJR93aeS38yQnzOK/rFWy+SZdiQe3wbxKw06cew3YygADAKBggqhkjOPQQDAgNJADBGAiEA9f2sSYjsqjtwlnxG61hV79eNN1Q1isieZyQUZgPZEI8CIQDcwG84+Qe1Vm5z/ViGMH6rlEa/TqBsvV3+1Vy7Aq8W1Q==`
const authority = `-----BEGIN CERTIFICATE-----
MIIBOzCB4aADAgECAgEBMAoGCCqGSM49BAMCMAwxCjAIBgNVBAMTAWEwIBcNMjMx
MTE0MjIxMzIwWhgPMjA5NjEwMDIwNzA2NDBaMAwxCjAIBgNVBAMTAWEwWTATBgcq
hkjOPQIBBggqhkjOPQMBBwNCAAR3JscOAkcYN93QYgv4dtRvQzKTbtNkA/0/QPnL
YJUqUh4yUfd2nkt/MkJ8ziv6xVsvkmXYkHt8G8SsNOnHsN2MozIwMDAPBgNVHRMB
Af8EBTADAQH/MB0GA1UdDgQWBBRfsoNskkQfu4vMCnY/k24ujMDDODAKBggqhkjO
PQQDAgNJADBGAiEAr6UueNUNiRJBobsWCTP/dWIysiCzH+N4bcSzqKgl2fACIQCu
PFqNwKNuZ8e/lEhRFJiLDZNXKlgX4u4RV1NQ1y3OiQ==
-----END CERTIFICATE-----
`

// kinds are the least manifest of each resource, as a client may write it.
var kinds = []struct {
	group, version, resource, kind string
	cluster                        bool
	body                           string
}{
	{"", "v1", "namespaces", "Namespace", true, ``},
	{"", "v1", "nodes", "Node", true, ``},
	{"", "v1", "pods", "Pod", false, `spec: {containers: [{name: a, image: a}]}`},
	{"", "v1", "services", "Service", false, `spec: {ports: [{port: 80}]}`},
	{"", "v1", "endpoints", "Endpoints", false, `subsets: [{addresses: [{ip: 10.0.0.1}], ports: [{port: 80}]}]`},
	{"", "v1", "configmaps", "ConfigMap", false, `data: {a: b}`},
	{"", "v1", "secrets", "Secret", false, `stringData: {a: b}`},
	{"", "v1", "serviceaccounts", "ServiceAccount", false, ``},
	{"", "v1", "events", "Event", false, `involvedObject: {kind: Pod, namespace: default, name: a}`},
	{"", "v1", "replicationcontrollers", "ReplicationController", false, `spec: {template: ` + podTemplate + `}`},
	{"", "v1", "podtemplates", "PodTemplate", false, `template: ` + podTemplate},
	{"", "v1", "limitranges", "LimitRange", false, `spec: {limits: [{type: Container, max: {cpu: 1}}]}`},
	{"", "v1", "resourcequotas", "ResourceQuota", false, `spec: {hard: {pods: 5}}`},
	{"", "v1", "persistentvolumes", "PersistentVolume", true, `spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, hostPath: {path: /a}}`},
	{"", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", false, `spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}`},
	{"apps", "v1", "deployments", "Deployment", false, `spec: {` + workload + `}`},
	{"apps", "v1", "replicasets", "ReplicaSet", false, `spec: {` + workload + `}`},
	{"apps", "v1", "daemonsets", "DaemonSet", false, `spec: {` + workload + `}`},
	{"apps", "v1", "statefulsets", "StatefulSet", false, `spec: {serviceName: a, ` + workload + `}`},
	{"apps", "v1", "controllerrevisions", "ControllerRevision", false, `revision: 1, data: {a: b}`},
	{"batch", "v1", "jobs", "Job", false, `spec: {template: ` + jobTemplate + `}`},
	{"batch", "v1", "cronjobs", "CronJob", false, `spec: {schedule: "*/5 * * * *", jobTemplate: {spec: {template: ` + jobTemplate + `}}}`},
	{"autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", false, `spec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: a}}`},
	{"autoscaling", "v1", "horizontalpodautoscalers", "HorizontalPodAutoscaler", false, `spec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: a}, targetCPUUtilizationPercentage: 50}`},
	{"networking.k8s.io", "v1", "ingresses", "Ingress", false, `spec: {defaultBackend: {service: {name: a, port: {number: 80}}}}`},
	{"networking.k8s.io", "v1", "ingressclasses", "IngressClass", true, `spec: {controller: example.com/a}`},
	{"networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", false, `spec: {podSelector: {}}`},
	{"policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", false, `spec: {minAvailable: 1, selector: {matchLabels: {app: a}}}`},
	{"scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", true, `value: 5`},
	{"storage.k8s.io", "v1", "storageclasses", "StorageClass", true, `provisioner: example.com/a`},
	{"storage.k8s.io", "v1", "csinodes", "CSINode", true, `spec: {drivers: []}`},
	{"storage.k8s.io", "v1", "csidrivers", "CSIDriver", true, `spec: {}`},
	{"storage.k8s.io", "v1", "csistoragecapacities", "CSIStorageCapacity", false, `storageClassName: a`},
	{"storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", true, `spec: {attacher: a, nodeName: a, source: {persistentVolumeName: a}}`},
	{"storage.k8s.io", "v1", "volumeattributesclasses", "VolumeAttributesClass", true, `driverName: example.com, parameters: {iops: "5"}`},
	{"networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", true, `spec: {cidrs: [10.200.0.0/16]}`},
	{"flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "FlowSchema", true, `spec: {priorityLevelConfiguration: {name: a}}`},
	{"flowcontrol.apiserver.k8s.io", "v1", "prioritylevelconfigurations", "PriorityLevelConfiguration", true, `spec: {type: Limited, limited: {limitResponse: {type: Queue, queuing: {}}}}`},
	{"admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", true, `webhooks: [` + hook + `]`},
	{"admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", true, `webhooks: [` + hook + `]`},
	{"admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", true, `spec: {matchConstraints: {resourceRules: [` + hookRule + `]}, validations: [{expression: "true"}]}`},
	{"admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", true, `spec: {policyName: a, validationActions: [Deny]}`},
	{"admissionregistration.k8s.io", "v1", "mutatingadmissionpolicies", "MutatingAdmissionPolicy", true, `spec: {reinvocationPolicy: Never, matchConstraints: {resourceRules: [` + hookRule + `]}, mutations: [{patchType: JSONPatch, jsonPatch: {expression: "[JSONPatch{op: \"test\", path: \"/a\"}]"}}]}`},
	{"admissionregistration.k8s.io", "v1", "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", true, `spec: {policyName: a}`},
	{"resource.k8s.io", "v1", "deviceclasses", "DeviceClass", true, `spec: {selectors: [{cel: {expression: "true"}}]}`},
	{"resource.k8s.io", "v1", "devicetaintrules", "DeviceTaintRule", true, `spec: {deviceSelector: {driver: example.com}, taint: {key: a, effect: NoExecute}}`},
	{"resource.k8s.io", "v1", "resourceclaims", "ResourceClaim", false, `spec: {devices: {requests: [{name: a, exactly: {deviceClassName: a}}]}}`},
	{"resource.k8s.io", "v1", "resourceclaimtemplates", "ResourceClaimTemplate", false, `spec: {spec: {devices: {requests: [{name: a, firstAvailable: [{name: b, deviceClassName: a}]}]}}}`},
	{"resource.k8s.io", "v1", "resourceslices", "ResourceSlice", true, `spec: {driver: example.com, nodeName: n1, pool: {name: a, resourceSliceCount: 1}, devices: [{name: d, attributes: {a: {int: 5}}}]}`},
	{"storagemigration.k8s.io", "v1", "storageversionmigrations", "StorageVersionMigration", true, `spec: {resource: {resource: pods}}`},
	{"certificates.k8s.io", "v1", "podcertificaterequests", "PodCertificateRequest", false, `spec: {signerName: example.com/a, podName: p, podUID: u, serviceAccountName: s, serviceAccountUID: u, nodeName: n1, nodeUID: u, stubPKCS10Request: ` + stub + `}`},
	{"certificates.k8s.io", "v1", "clustertrustbundles", "ClusterTrustBundle", true, `spec: {trustBundle: ` + strconv.Quote(authority) + `}`},
	{"node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", true, `handler: a`},
	{"coordination.k8s.io", "v1", "leases", "Lease", false, `spec: {holderIdentity: a}`},
	{"discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", false, `addressType: IPv4, endpoints: [{addresses: [10.0.0.1]}], ports: [{port: 80}]`},
	{"events.k8s.io", "v1", "events", "Event", false, `regarding: {kind: Pod, namespace: default, name: a}, eventTime: "2026-01-02T03:04:05.678901Z", reportingController: a, reportingInstance: a, action: a, reason: a, type: Normal, note: a`},
}

// Each resource takes the least manifest of its kind, gives it back with
// defaults, takes it again unchanged without a write, and has as many cells as
// columns (R40).
func TestServed(t *testing.T) {
	cluster := integration.Start(t)
	ctx := context.Background()
	account := &v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := cluster.Client.CoreV1().ServiceAccounts("default").Create(ctx, account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		t.Run(k.group+"/"+k.version+"/"+k.resource, func(t *testing.T) {
			// One store may be behind two versions.
			name := "a-" + strings.ReplaceAll(k.group, ".", "-") + k.version
			manifest := `{metadata: {name: ` + name + `}`
			if k.body != "" {
				manifest += ", " + k.body
			}
			obj := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(manifest+"}"), &obj.Object); err != nil {
				t.Fatal(err)
			}
			gvr := schema.GroupVersionResource{Group: k.group, Version: k.version, Resource: k.resource}
			obj.SetGroupVersionKind(gvr.GroupVersion().WithKind(k.kind))
			var resource dynamic.ResourceInterface = client.Resource(gvr)
			if !k.cluster {
				resource = client.Resource(gvr).Namespace("default")
			}
			created, err := resource.Create(ctx, obj, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
			if err != nil {
				t.Fatal(err)
			}
			again, err := resource.Update(ctx, created, metav1.UpdateOptions{})
			for apierrors.IsConflict(err) { // the apiserver tells a FlowSchema of its level
				if created, err = resource.Get(ctx, name, metav1.GetOptions{}); err == nil {
					again, err = resource.Update(ctx, created, metav1.UpdateOptions{})
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			if again.GetResourceVersion() != created.GetResourceVersion() || again.GetGeneration() != created.GetGeneration() {
				t.Errorf("an update with what was read wrote something")
			}
			path := "/apis/" + k.group + "/" + k.version
			if k.group == "" {
				path = "/api/" + k.version
			}
			if !k.cluster {
				path += "/namespaces/default"
			}
			checkTable(t, cluster, path+"/"+k.resource, name)
		})
	}
}

func checkTable(t *testing.T, cluster *integration.Cluster, path, name string) {
	request := cluster.Client.CoreV1().RESTClient().Get().AbsPath(path)
	text, err := request.SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").Param("fieldSelector", "metadata.name="+name).DoRaw(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var table metav1.Table
	if err := json.Unmarshal(text, &table); err != nil {
		t.Fatal(err)
	}
	if len(table.Rows) != 1 || len(table.Rows[0].Cells) != len(table.ColumnDefinitions) {
		t.Errorf("the table is %s", text)
		return
	}
	for i, column := range table.ColumnDefinitions {
		cell := table.Rows[0].Cells[i]
		ok := true
		switch column.Type {
		case "integer":
			_, ok = cell.(float64)
			if !ok {
				_, ok = cell.(int64)
			}
		case "boolean":
			_, ok = cell.(bool)
			ok = ok || cell == "True" || cell == "False" // a CronJob's suspend, which upstream prints so
		}
		if !ok {
			t.Errorf("column %s is %s, its cell %v", column.Name, column.Type, cell)
		}
	}
}
