package why

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// finalizerOwner is who removes a well-known finalizer, and when.
type finalizerOwner struct {
	// finalizer is its name, or with a slash at the end its beginning.
	finalizer string
	// controller removes it; component is the Lease of the process it runs in ("" if it has none).
	controller, component string
	until                 string
}

const manager = "kube-controller-manager"

var finalizerOwners = []finalizerOwner{
	{"kubernetes.io/pvc-protection", "pvc-protection-controller", manager, "no pod uses the claim any more"},
	{"kubernetes.io/pv-protection", "pv-protection-controller", manager, "no claim is bound to the volume any more"},
	{"kubernetes.io/vac-protection", "volumeattributesclass-protection-controller", manager, "no volume and no claim names the class any more"},
	{"foregroundDeletion", "garbage-collector-controller", manager, "all objects that it owns, and that block its deletion, are gone"},
	{"orphan", "garbage-collector-controller", manager, "all objects that it owns have been set free"},
	{"batch.kubernetes.io/job-tracking", "job-controller", manager, "the pod's end has been counted in its Job's status"},
	{"kubernetes", "namespace-controller", manager, "the namespace is empty"},
	{"service.kubernetes.io/load-balancer-cleanup", "service-lb-controller", "cloud-controller-manager", "the load balancer is gone"},
	{"customresourcecleanup.apiextensions.k8s.io", "the apiserver's CRD finalizer", "", "all objects of the kind are gone"},
	{"resource.kubernetes.io/delete-protection", "resourceclaim-controller", manager, "no pod uses the claim any more"},
	{"external-provisioner.volume.kubernetes.io/", "the CSI driver's provisioner", "", "the volume has been deleted"},
	{"external-attacher/", "the CSI driver's attacher", "", "the volume has been detached"},
	{"snapshot.storage.kubernetes.io/", "the snapshot controller", "", "no snapshot needs it any more"},
}

func ownerOfFinalizer(name string) *finalizerOwner {
	for i := range finalizerOwners {
		o := &finalizerOwners[i]
		if o.finalizer == name || strings.HasSuffix(o.finalizer, "/") && strings.HasPrefix(name, o.finalizer) {
			return o
		}
	}
	return nil
}

// deletion says who asked for an object's deletion; "" if nobody has.
func (f *facts) deletion() string {
	deleted := f.object.GetDeletionTimestamp()
	if deleted == nil {
		return ""
	}
	grace := time.Duration(0)
	if seconds := f.object.GetDeletionGracePeriodSeconds(); seconds != nil {
		grace = time.Duration(*seconds) * time.Second
	}
	asked := deleted.Add(-grace) // the timestamp is when the grace ends
	text := "Deleted " + ago(f.now, asked)
	if c := f.deletedBy(); c != nil {
		text += " by " + c.by()
	} else if f.recorded {
		text += "; by whom, the record no longer knows"
	}
	return text
}

// heldUp explains each finalizer: who removes it, when, and whether they can. finalizers are those of
// the metadata, or a namespace's own.
func heldUp(f *facts, finalizers []string) (findings []Finding) {
	deletion := f.deletion()
	if deletion == "" {
		return nil
	}
	for _, name := range finalizers {
		finding := Finding{Weight: Trouble, Title: "Terminating: finalizer " + name + " holds it", Evidence: []string{deletion}}
		owner := ownerOfFinalizer(name)
		switch {
		case owner == nil:
			finding.Evidence = append(finding.Evidence, "no controller of Kubernetes itself has this finalizer: whoever owns the name must remove it; it was set "+orUnknown(f.whoChanged("metadata", "finalizers")))
			finding.Remedy = fmt.Sprintf("see that its controller runs; only if it never will: kubectl patch %s -p '{\"metadata\":{\"finalizers\":null}}' --type=merge", f.reference())
		case owner.component == "":
			finding.Evidence = append(finding.Evidence, fmt.Sprintf("%s removes it, when %s", owner.controller, owner.until))
		default:
			finding.Evidence = append(finding.Evidence, fmt.Sprintf("%s in %s removes it, when %s", owner.controller, owner.component, owner.until), f.runs(owner.component))
			if f.stopped(owner.component) {
				finding.Remedy = "start " + owner.component
			}
			if !f.stopped(owner.component) && f.now.Sub(f.object.GetDeletionTimestamp().Time) < 5*time.Second {
				finding.Weight = Waiting
			}
		}
		findings = append(findings, finding)
	}
	return findings
}

func orUnknown(text string) string {
	if text == "" {
		return "by somebody unknown"
	}
	return text
}

// reference is how kubectl names the object.
func (f *facts) reference() string {
	text := strings.ToLower(f.kind) + " " + f.name
	if f.namespace != "" {
		text += " -n " + f.namespace
	}
	return text
}

// podTerminating explains why a deleted pod is still there, besides its finalizers.
func podTerminating(f *podFacts) []Finding {
	deletion := f.deletion()
	if deletion == "" || len(f.pod.Finalizers) > 0 && terminated(f.pod) {
		return nil
	}
	finding := Finding{Weight: Waiting, Title: "Terminating: its containers are being stopped", Evidence: []string{deletion}}
	left := f.pod.DeletionTimestamp.Sub(f.now)
	switch {
	case f.pod.Spec.NodeName == "":
		finding.Title = "Terminating: it has no node, so no kubelet has to agree"
	case f.node == nil:
		finding.Weight, finding.Title = Trouble, fmt.Sprintf("Terminating: node %s is gone, and its kubelet with it", f.pod.Spec.NodeName)
		finding.Remedy = fmt.Sprintf("the pod garbage collector removes it (%s), or: kubectl delete %s --force --grace-period=0", f.runs(manager), f.reference())
	case !f.nodeLease.alive(f.now):
		finding.Weight, finding.Title = Trouble, fmt.Sprintf("Terminating: the kubelet of %s, who must stop its containers, is silent", f.pod.Spec.NodeName)
		finding.Evidence = append(finding.Evidence, fmt.Sprintf("its Lease was last renewed %s", ago(f.now, f.nodeLease.renewed)))
		finding.Remedy = fmt.Sprintf("start the kubelet of %s; only if the machine is surely off: kubectl delete %s --force --grace-period=0", f.pod.Spec.NodeName, f.reference())
	case left > 0:
		finding.Evidence = append(finding.Evidence, fmt.Sprintf("%s of its grace period of %ds are left; then they get SIGKILL", span(left), *f.pod.DeletionGracePeriodSeconds))
	default:
		finding.Weight, finding.Title = Trouble, "Terminating: its grace period is over, and the kubelet has not reported that its containers have ended"
		finding.Evidence = append(finding.Evidence, fmt.Sprintf("the grace period ended %s", ago(f.now, f.pod.DeletionTimestamp.Time)))
		finding.Remedy = fmt.Sprintf("see the kubelet's log on %s", f.pod.Spec.NodeName)
	}
	finding.Evidence = append(finding.Evidence, stopping(f)...)
	return []Finding{finding}
}

// stopping tells which containers still run, and what they do instead of ending.
func stopping(f *podFacts) (lines []string) {
	for _, s := range f.pod.Status.ContainerStatuses {
		if s.State.Running == nil {
			continue
		}
		line := fmt.Sprintf("container %s still runs", s.Name)
		if c := containerOf(f.pod, s.Name); c != nil && c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
			line += "; its preStop hook (" + handlerText(c.Lifecycle.PreStop) + ") goes before SIGTERM, and takes of the grace period"
		}
		if e := lastEvent(f.events, func(e *corev1.Event) bool { return e.Reason == "FailedPreStopHook" && aboutContainer(e, s.Name) }); e != nil {
			line += "; the hook failed: " + oneLine(e.Message, 150)
		}
		lines = append(lines, line)
	}
	return lines
}

func handlerText(h *corev1.LifecycleHandler) string {
	switch {
	case h.Exec != nil:
		return "exec"
	case h.HTTPGet != nil:
		return "GET " + h.HTTPGet.Path
	case h.Sleep != nil:
		return fmt.Sprintf("sleep %d s", h.Sleep.Seconds)
	}
	return "TCP"
}

func terminated(pod *corev1.Pod) bool {
	for _, s := range pod.Status.ContainerStatuses {
		if s.State.Running != nil {
			return false
		}
	}
	return true
}
