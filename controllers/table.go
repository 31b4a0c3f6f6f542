package controllers

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/controllers/bootstrap"
	"hyperkube/controllers/certificates"
	"hyperkube/controllers/clusterroleaggregation"
	"hyperkube/controllers/cronjob"
	"hyperkube/controllers/daemonset"
	"hyperkube/controllers/deployment"
	"hyperkube/controllers/disruption"
	"hyperkube/controllers/endpoints"
	"hyperkube/controllers/endpointslice"
	"hyperkube/controllers/ephemeral"
	"hyperkube/controllers/garbagecollector"
	"hyperkube/controllers/job"
	"hyperkube/controllers/namespace"
	"hyperkube/controllers/nodeipam"
	"hyperkube/controllers/nodelifecycle"
	"hyperkube/controllers/persistentvolume"
	"hyperkube/controllers/podautoscaler"
	"hyperkube/controllers/podgc"
	"hyperkube/controllers/pvcprotection"
	"hyperkube/controllers/pvprotection"
	"hyperkube/controllers/replicaset"
	"hyperkube/controllers/resourcequota"
	"hyperkube/controllers/rootcacertpublisher"
	"hyperkube/controllers/serviceaccount"
	"hyperkube/controllers/servicecidrs"
	"hyperkube/controllers/statefulset"
	"hyperkube/controllers/tainteviction"
	"hyperkube/controllers/ttl"
	"hyperkube/controllers/ttlafterfinished"
	"hyperkube/controllers/vacprotection"
)

// entry is one line of the table of controllers.
type entry struct {
	// name is ours; upstream is the name in kube-controller-manager. --controllers
	// takes either.
	name, upstream string
	// what is a line for the list of controllers.
	what string
	// needs is the resource the controller is about. An apiserver that does not serve
	// it has no use for the controller, whose informer would retry for ever.
	needs schema.GroupVersionResource
	// build makes the controller. A nil one means that the configuration leaves it
	// nothing to do.
	build func(t *term) (controller, error)
}

var (
	coreGroup  = schema.GroupVersion{Version: "v1"}
	appsGroup  = schema.GroupVersion{Group: "apps", Version: "v1"}
	batchGroup = schema.GroupVersion{Group: "batch", Version: "v1"}

	autoscalingGroup  = schema.GroupVersion{Group: "autoscaling", Version: "v2"}
	networkingGroup   = schema.GroupVersion{Group: "networking.k8s.io", Version: "v1"}
	policyGroup       = schema.GroupVersion{Group: "policy", Version: "v1"}
	discoveryGroup    = schema.GroupVersion{Group: "discovery.k8s.io", Version: "v1"}
	rbacGroup         = schema.GroupVersion{Group: "rbac.authorization.k8s.io", Version: "v1"}
	certificatesGroup = schema.GroupVersion{Group: "certificates.k8s.io", Version: "v1"}
	storageGroup      = schema.GroupVersion{Group: "storage.k8s.io", Version: "v1"}
	coordinationGroup = schema.GroupVersion{Group: "coordination.k8s.io", Version: "v1"}
)

// table is all controllers there are. A new one is a folder and a line here.
var table = []entry{
	{"deployment", "deployment-controller", "rolls out pod templates, one ReplicaSet each", appsGroup.WithResource("deployments"),
		func(t *term) (controller, error) {
			return deployment.New(t.client, t.informers, t.recorder("deployment-controller"), t.options(5)), nil
		}},
	{"replicaset", "replicaset-controller", "keeps the number of a ReplicaSet's pods", appsGroup.WithResource("replicasets"),
		func(t *term) (controller, error) {
			return replicaset.New(t.client, t.informers, t.recorder("replicaset-controller"), t.options(5))
		}},
	{"replicationcontroller", "replicationcontroller-controller", "the same for ReplicationControllers", coreGroup.WithResource("replicationcontrollers"),
		func(t *term) (controller, error) {
			return replicaset.NewReplicationManager(t.client, t.informers, t.recorder("replication-controller"), t.options(2))
		}},
	{"daemonset", "daemonset-controller", "runs a pod on each node", appsGroup.WithResource("daemonsets"),
		func(t *term) (controller, error) {
			return daemonset.New(t.client, t.informers, t.recorder("daemonset-controller"), t.options(2))
		}},
	{"statefulset", "statefulset-controller", "keeps pods with names and storage of their own", appsGroup.WithResource("statefulsets"),
		func(t *term) (controller, error) {
			return statefulset.New(t.client, t.informers, t.recorder("statefulset-controller"), t.options(5))
		}},
	{"job", "job-controller", "runs pods until enough have succeeded", batchGroup.WithResource("jobs"),
		func(t *term) (controller, error) {
			return job.New(t.client, t.informers, t.recorder("job-controller"), t.options(5))
		}},
	{"cronjob", "cronjob-controller", "makes Jobs by a schedule", batchGroup.WithResource("cronjobs"),
		func(t *term) (controller, error) {
			return cronjob.New(t.client, t.informers, t.recorder("cronjob-controller"), t.options(5)), nil
		}},
	{"ttlafterfinished", "ttl-after-finished-controller", "deletes Jobs some time after they ended", batchGroup.WithResource("jobs"),
		func(t *term) (controller, error) {
			return ttlafterfinished.New(t.client, t.informers, t.options(5)), nil
		}},
	{"disruption", "disruption-controller", "says how many pods each budget lets go", policyGroup.WithResource("poddisruptionbudgets"),
		func(t *term) (controller, error) {
			return disruption.New(t.client, t.informers, t.recorder("controllermanager"), t.options(1)), nil
		}},
	{"horizontalpodautoscaler", "horizontal-pod-autoscaler-controller", "scales workloads by what their pods use", autoscalingGroup.WithResource("horizontalpodautoscalers"),
		func(t *term) (controller, error) {
			config := t.config.Autoscaler
			config.RESTConfig = t.config.RESTConfig
			return podautoscaler.New(t.client, t.informers, t.recorder("horizontal-pod-autoscaler"), config, t.options(5))
		}},
	{"endpointslice", "endpointslice-controller", "lists the addresses behind each Service", discoveryGroup.WithResource("endpointslices"),
		func(t *term) (controller, error) {
			return endpointslice.New(t.client, t.informers, t.recorder("endpoint-slice-controller"), t.options(5)), nil
		}},
	{"endpointslicemirroring", "endpointslice-mirroring-controller", "copies endpoints written by hand into slices", discoveryGroup.WithResource("endpointslices"),
		func(t *term) (controller, error) {
			return endpointslice.NewMirroring(t.client, t.informers, t.recorder("endpoint-slice-mirroring-controller"), t.options(5)), nil
		}},
	{"endpoints", "endpoints-controller", "the same in the older form", coreGroup.WithResource("endpoints"),
		func(t *term) (controller, error) {
			return endpoints.New(t.client, t.informers, t.recorder("endpoint-controller"), t.options(2)), nil
		}},
	{"namespace", "namespace-controller", "empties namespaces that are deleted", coreGroup.WithResource("namespaces"),
		func(t *term) (controller, error) {
			return namespace.New(t.client, t.metadata, t.informers, t.options(5)), nil
		}},
	{"garbagecollector", "garbage-collector-controller", "deletes objects whose owners are gone", coreGroup.WithResource("pods"),
		func(t *term) (controller, error) {
			return garbagecollector.New(garbagecollector.Config{Metadata: t.metadata, Discovery: t.client.Discovery(), Shared: t.sharedInformers()},
				t.recorder("garbage-collector-controller"), t.options(10)), nil
		}},
	{"serviceaccount", "serviceaccount-controller", "gives each namespace its default account", coreGroup.WithResource("serviceaccounts"),
		func(t *term) (controller, error) { return serviceaccount.New(t.client, t.informers, t.options(1)), nil }},
	{"serviceaccounttoken", "serviceaccount-token-controller", "fills Secrets with tokens of their accounts", coreGroup.WithResource("secrets"),
		func(t *term) (controller, error) {
			if len(t.config.ServiceAccountKey) == 0 {
				return nil, nil
			}
			return serviceaccount.NewTokensController(t.client, t.informers, t.config.ServiceAccountKey, t.config.RootCA, t.options(2))
		}},
	{"resourcequota", "resourcequota-controller", "recounts what quotas have used", coreGroup.WithResource("resourcequotas"),
		func(t *term) (controller, error) {
			return resourcequota.New(t.client, t.metadata, t.informers, t.options(5)), nil
		}},
	{"persistentvolumebinder", "persistentvolume-binder-controller", "binds claims to volumes, and says what becomes of released ones", coreGroup.WithResource("persistentvolumeclaims"),
		func(t *term) (controller, error) {
			return persistentvolume.New(t.client, t.informers, t.recorder("persistentvolume-controller"), t.options(1)), nil
		}},
	{"ephemeralvolume", "ephemeral-volume-controller", "creates the claims of pods' ephemeral volumes", coreGroup.WithResource("persistentvolumeclaims"),
		func(t *term) (controller, error) {
			return ephemeral.New(t.client, t.informers, t.recorder("ephemeral_volume"), t.options(5)), nil
		}},
	{"pvcprotection", "persistentvolumeclaim-protection-controller", "lets claims go that no pod uses", coreGroup.WithResource("persistentvolumeclaims"),
		func(t *term) (controller, error) { return pvcprotection.New(t.client, t.informers, t.options(1)), nil }},
	{"pvprotection", "persistentvolume-protection-controller", "lets volumes go that no claim is bound to", coreGroup.WithResource("persistentvolumes"),
		func(t *term) (controller, error) { return pvprotection.New(t.client, t.informers, t.options(1)), nil }},
	{"vacprotection", "volumeattributesclass-protection-controller", "lets classes of volume attributes go that nothing uses", storageGroup.WithResource("volumeattributesclasses"),
		func(t *term) (controller, error) { return vacprotection.New(t.client, t.informers, t.options(1)), nil }},
	{"rootcacertpublisher", "root-ca-certificate-publisher-controller", "gives each namespace the cluster's CA certificate", coreGroup.WithResource("configmaps"),
		func(t *term) (controller, error) {
			if len(t.config.RootCA) == 0 {
				return nil, nil
			}
			return rootcacertpublisher.New(t.client, t.informers, t.config.RootCA, t.options(1)), nil
		}},
	{"bootstrapsigner", "bootstrap-signer-controller", "signs cluster-info with the tokens of those who may join", coreGroup.WithResource("configmaps"),
		func(t *term) (controller, error) {
			return bootstrap.NewSigner(t.client, t.informers, t.options(1)), nil
		}},
	{"tokencleaner", "token-cleaner-controller", "deletes bootstrap tokens that have expired", coreGroup.WithResource("secrets"),
		func(t *term) (controller, error) { return bootstrap.NewTokenCleaner(t.client, t.options(1)), nil }},
	{"certificateapprover", "certificatesigningrequest-approving-controller", "approves kubelets' requests for their own client certificates", certificatesGroup.WithResource("certificatesigningrequests"),
		func(t *term) (controller, error) {
			return certificates.NewApprover(t.client, t.informers, t.options(1)), nil
		}},
	{"certificatesigner", "certificatesigningrequest-signing-controller", "signs approved certificate requests", certificatesGroup.WithResource("certificatesigningrequests"),
		func(t *term) (controller, error) {
			if len(t.config.SigningCert) == 0 || len(t.config.SigningKey) == 0 {
				return nil, nil
			}
			return certificates.NewSigner(t.client, t.informers, certificates.SignerConfig{
				Cert: t.config.SigningCert, Key: t.config.SigningKey, Duration: t.config.SigningDuration}, t.options(1))
		}},
	{"certificatecleaner", "certificatesigningrequest-cleaner-controller", "deletes certificate requests that are over", certificatesGroup.WithResource("certificatesigningrequests"),
		func(t *term) (controller, error) {
			return certificates.NewCleaner(t.client, t.informers, t.options(1)), nil
		}},
	{"clusterroleaggregation", "clusterrole-aggregation-controller", "fills ClusterRoles that are made of others", rbacGroup.WithResource("clusterroles"),
		func(t *term) (controller, error) {
			return clusterroleaggregation.New(t.client, t.informers, t.options(1)), nil
		}},
	{"nodelifecycle", "node-lifecycle-controller", "finds silent nodes and taints them", coreGroup.WithResource("nodes"),
		func(t *term) (controller, error) {
			return nodelifecycle.New(t.client, t.informers, t.recorder("node-controller"), nodelifecycle.Config{
				NodeMonitorPeriod: t.config.NodeMonitorPeriod, NodeMonitorGracePeriod: t.config.NodeMonitorGracePeriod,
				NodeStartupGracePeriod: t.config.NodeStartupGracePeriod,
			}, t.options(2))
		}},
	{"tainteviction", "taint-eviction-controller", "deletes pods that no longer tolerate their node's taints", coreGroup.WithResource("nodes"),
		func(t *term) (controller, error) {
			return tainteviction.New(t.client, t.informers, t.recorder("taint-eviction-controller"), t.options(2))
		}},
	{"ttl", "ttl-controller", "tells kubelets how long what they read may be kept", coreGroup.WithResource("nodes"),
		func(t *term) (controller, error) { return ttl.New(t.client, t.informers, t.options(1)), nil }},
	{"servicecidrs", "service-cidr-controller", "holds the ranges of Services' addresses while these are used", networkingGroup.WithResource("servicecidrs"),
		func(t *term) (controller, error) {
			return servicecidrs.New(t.client, t.informers, t.recorder("service-cidr-controller"), t.options(1)), nil
		}},
	{"nodeipam", "node-ipam-controller", "gives each node its share of the pods' addresses", coreGroup.WithResource("nodes"),
		func(t *term) (controller, error) {
			if t.config.ClusterCIDR == "" {
				return nil, nil
			}
			return nodeipam.New(t.client, t.informers, t.recorder("cidrAllocator"),
				nodeipam.Config{ClusterCIDR: t.config.ClusterCIDR, NodeMaskSize: t.config.NodeCIDRMaskSize}, t.options(1))
		}},
	{"podgc", "pod-garbage-collector-controller", "deletes pods that have no node any more", coreGroup.WithResource("pods"),
		func(t *term) (controller, error) { return podgc.New(t.client, t.informers, t.options(1)), nil }},
}

// selectControllers returns the entries that the selection turns on. "*" is all;
// "name" adds one, "-name" takes one out, in any order. An empty selection is all.
func selectControllers(selection []string) (map[string]bool, error) {
	on, star := map[string]bool{}, len(selection) == 0
	for _, word := range selection {
		star = star || word == "*"
	}
	for _, e := range table {
		on[e.name] = star
	}
	for _, word := range selection {
		if word == "*" {
			continue
		}
		name, off := strings.CutPrefix(word, "-")
		i := slices.IndexFunc(table, func(e entry) bool { return name == e.name || name == e.upstream })
		if i < 0 {
			return nil, fmt.Errorf("%q is not a controller; there are: %s", name, strings.Join(Names(), ", "))
		}
		on[table[i].name] = !off
	}
	return on, nil
}

// Names are the names of all controllers, in the table's order.
func Names() []string {
	names := make([]string, len(table))
	for i, e := range table {
		names[i] = e.name
	}
	return names
}
