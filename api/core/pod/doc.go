// Package pod is what is true of a Pod, whoever asks: its defaults, its
// validation, and pure functions of its spec and conditions.
//
//	pod or template, as a client (or a manifest file) wrote it
//	     │
//	     ▼  SetDefaultsPod / SetDefaultsPodTemplate    fills what was left out
//	     │
//	     ▼  ValidatePodCreate / ValidatePodTemplateSpec  says everything that is wrong
//	     │
//	     ▼  stored, scheduled, run; each write again passes
//	        ValidatePodUpdate, ValidatePodStatusUpdate,
//	        ValidatePodEphemeralContainersUpdate
//
// The apiserver runs all of it for every write. The kubelet runs defaults and
// validation on static pods, which reach it without passing an apiserver;
// scheduler and controllers use the conditions and the container walk. That is
// why the package imports nothing but k8s.io libraries.
//
// Nouns:
//   - a pod spec is checked with PodSpecOptions: a template may not say some
//     things that a pod may, and an update may keep what a create may not start.
//   - errors carry the path of the field, as a client wrote it
//     (spec.containers[0].ports[1].containerPort), and all are reported, not the
//     first one only.
//
// Invariants:
//   - Defaulting is idempotent: what is read from the store is defaulted again.
//   - Defaulting never looks beyond the object; what depends on others (service
//     account, priority class, tolerations) is admission's work.
//   - Validation never changes the object.
//
// Files: defaults.go, defaults_volume.go, defaults_resources.go; validation.go (the
// pod and its spec), then validation_<part>.go: container, mount, env, probe,
// resources, volume and volume_source, claim, certificates, security, os,
// affinity, annotations; and of writes: update, resize, status; conditions.go
// and containers.go.
//
// Read first: SetDefaultsPod, ValidatePodSpec, ValidatePodUpdate.
//
// # In Kubernetes
//
// pkg/apis/core/v1/defaults.go, pkg/apis/core/validation/validation.go (the
// parts about pods; the file has nearly ten thousand lines) and
// pkg/api/v1/pod/util.go. There are no internal types here: defaults and
// validation work on k8s.io/api/core/v1 itself. The order of errors, their paths
// and their words are v1.37.1's, slips included (volumes[0].downwarAPI): a client
// is told the same. Left out: the feature gates (what v1.37 has on by default is on
// here, and the fields of what it has off are dropped), and with them the leniency
// towards objects from a time when something was allowed.
package pod
