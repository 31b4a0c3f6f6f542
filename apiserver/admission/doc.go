// Package admission is the last to be asked before a write is stored: it may complete
// the object, and it may refuse it for what it contains.
//
//	decoded, defaulted object
//	   │ Admit: each plugin in order may change it
//	   ▼
//	validation of the kind (api/…)
//	   │ Validate: each plugin in order may refuse it
//	   ▼
//	etcd
//
// The difference to authz: authz sees who does what to which name, and never the
// object; admission sees the object. The difference to validation: validation is true
// of a kind whoever asks; admission depends on who asks and on what else is in the
// cluster (the namespace, the service account, the priority class).
//
// The plugins are a table, New's; their order is upstream's, since later ones rely
// on what earlier ones filled in. A plugin is a folder:
//
//	namespacelifecycle           nothing new in a namespace that is missing or going away
//	limitranger                  defaults, minima and maxima of containers, pods and claims
//	serviceaccount               each pod has an identity and finds its token
//	noderestriction              a kubelet changes only what is its node's
//	nodetaint                    a new node gets no pods until it is ready
//	podsecurity                  the Pod Security Standards, by labels of the namespace
//	priority                     a pod's priority from its class
//	defaulttolerationseconds     a pod stays 300 s on a node that does not answer
//	defaultstorageclass          the class of a claim that names none
//	storageobjectinuseprotection claims and volumes stay while they are in use
//	persistentvolumeclaimresize  a claim grows only where its class allows it
//	runtimeclass                 overhead and nodes of a pod's runtime
//	certificates                 who approves and signs for a signer; no certificate for system:masters
//	defaultingressclass          the class of an Ingress that names none
//	podtopologylabels            a pod learns the zone of its node
//	resourcequota                each write pays, and what cannot be paid for is refused
//
// Invariants: no plugin but resourcequota, which charges, writes anything; Validate changes nothing; whatever refuses
// says so with a status a client understands (403 unless it says otherwise).
//
// Read first: Chain.Admit, New, plugin.Plugin.
//
// # In Kubernetes
//
// k8s.io/apiserver/pkg/admission (chain.go), pkg/kubeapiserver/options/plugins.go (the order),
// plugin/pkg/admission/*. Left out for now are webhooks and policies, each one more line; left out for good is what is
// off by default. Without ServiceAccount no program in a pod could talk to the API; without NodeRestriction a kubelet
// taken over could relabel its node to attract other pods.
package admission
