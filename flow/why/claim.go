package why

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	corepod "hyperkube/api/core/pod"
)

// claimFacts are what is gathered of a PersistentVolumeClaim.
type claimFacts struct {
	*facts
	claim *corev1.PersistentVolumeClaim
	// class is the claim's; nil if it names none, or it does not exist.
	class   *storagev1.StorageClass
	classes []string
	volumes []corev1.PersistentVolume
	// users are pods that mount it.
	users []string
	// placed says whether any of them has a node.
	placed bool
}

func (r *reading) claim(ctx context.Context) (*Explanation, error) {
	claim, err := r.client.CoreV1().PersistentVolumeClaims(r.namespace).Get(ctx, r.name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	r.common(ctx, claim)
	f := &claimFacts{facts: &r.facts, claim: claim}
	classes, err := r.client.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{})
	if !r.failed("storage classes", err) {
		for i := range classes.Items {
			f.classes = append(f.classes, classes.Items[i].Name)
			if classes.Items[i].Name == ptr.Deref(claim.Spec.StorageClassName, "") {
				f.class = &classes.Items[i]
			}
		}
	}
	volumes, err := r.client.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{})
	if !r.failed("volumes", err) {
		f.volumes = volumes.Items
	}
	pods, err := r.client.CoreV1().Pods(r.namespace).List(ctx, metav1.ListOptions{})
	if !r.failed("pods", err) {
		for i := range pods.Items {
			// A pod that has ended waits for no claim, but keeps one from going until it is gone itself.
			counts := claim.DeletionTimestamp != nil || !corepod.IsPodTerminal(&pods.Items[i])
			if mounts(&pods.Items[i], r.name) && counts {
				f.users = append(f.users, pods.Items[i].Name)
				f.placed = f.placed || pods.Items[i].Spec.NodeName != ""
			}
		}
	}
	return explainClaim(f), nil
}

func mounts(pod *corev1.Pod, claim string) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim
	})
}

// explainClaim says why a claim is not bound, and who uses it.
func explainClaim(f *claimFacts) *Explanation {
	wants := f.claim.Spec.Resources.Requests[corev1.ResourceStorage]
	e := &Explanation{State: fmt.Sprintf("%s, %s, created %s", f.claim.Status.Phase, wants.String(), ago(f.now, f.claim.CreationTimestamp.Time))}
	held := heldUp(f.facts, f.claim.Finalizers)
	for i := range held {
		if len(f.users) > 0 && i == 0 {
			held[i].Evidence = append(held[i].Evidence, "it is used by "+plural(len(f.users), "pod")+": "+few(f.users, 5))
			held[i].Remedy = "delete these pods (or what makes them) first"
		}
	}
	e.add(held...)
	switch {
	case f.claim.DeletionTimestamp != nil:
	case f.claim.Status.Phase == corev1.ClaimLost:
		e.add(Finding{Weight: Trouble, Title: "Lost: its volume " + f.claim.Spec.VolumeName + " is gone, and what was on it", Remedy: "restore the volume, or delete the claim and make it anew"})
	case f.claim.Status.Phase != corev1.ClaimBound:
		e.add(f.unbound())
	default:
		e.add(Finding{Weight: Note, Title: "Bound to volume " + f.claim.Spec.VolumeName})
	}
	if len(f.users) > 0 {
		e.add(Finding{Weight: Note, Title: "Used by " + plural(len(f.users), "pod") + ": " + few(f.users, 5)})
	}
	e.add(lastChanged(f.facts)...)
	return e
}

func (f *claimFacts) unbound() Finding {
	finding := Finding{Weight: Trouble, Title: "Not bound: "}
	name := ptr.Deref(f.claim.Spec.StorageClassName, "")
	if event := lastEvent(f.events, func(e *corev1.Event) bool { return e.Type == corev1.EventTypeWarning }); event != nil {
		finding.Evidence = append(finding.Evidence, oneLine(event.Message, 300)+" ("+f.seen(event)+")")
	}
	switch {
	case f.claim.Spec.VolumeName != "":
		finding.Title += "it asks for volume " + f.claim.Spec.VolumeName + ", which is not free"
		for _, v := range f.volumes {
			if v.Name == f.claim.Spec.VolumeName {
				finding.Evidence = append(finding.Evidence, fmt.Sprintf("that volume is %s", v.Status.Phase))
			}
		}
		finding.Remedy = "make that volume available, or ask for none by name"
	case f.class != nil && ptr.Deref(f.class.VolumeBindingMode, storagev1.VolumeBindingImmediate) == storagev1.VolumeBindingWaitForFirstConsumer && !f.placed:
		finding.Weight, finding.Title = Waiting, finding.Title+fmt.Sprintf("class %s makes a volume when a pod that uses it is scheduled (WaitForFirstConsumer)", name)
		finding.Remedy = "create a pod that uses it"
		if len(f.users) > 0 {
			finding.Remedy = "hyperkube why pod/" + f.users[0] + namespaceFlag(f.namespace)
		}
	case f.class != nil:
		finding.Title += fmt.Sprintf("provisioner %s of class %s has not made a volume", f.class.Provisioner, name)
		finding.Remedy = "see that the provisioner runs, and its log"
	case name != "":
		finding.Title += fmt.Sprintf("there is no StorageClass %s, and no volume fits", name)
		finding.Evidence = append(finding.Evidence, "classes: "+orNone(few(f.classes, 5)), fmt.Sprintf("volumes that are free: %s", orNone(few(f.free(), 5))))
		finding.Remedy = "create the class or a fitting volume, or name another class"
	default:
		finding.Title += "it names no class, there is no default one, and no volume fits"
		finding.Evidence = append(finding.Evidence, "classes: "+orNone(few(f.classes, 5)), fmt.Sprintf("volumes that are free: %s", orNone(few(f.free(), 5))))
		finding.Remedy = "mark a StorageClass as the default, or create a volume of at least this size with the same access modes"
	}
	return finding
}

func (f *claimFacts) free() (names []string) {
	for _, v := range f.volumes {
		if v.Status.Phase == corev1.VolumeAvailable {
			size := v.Spec.Capacity[corev1.ResourceStorage]
			names = append(names, v.Name+" "+size.String())
		}
	}
	return names
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}
