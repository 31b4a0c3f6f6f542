// Package history keeps what the template of a DaemonSet or StatefulSet was: one
// ControllerRevision for each, so that pods can be told apart by revision, and
// kubectl rollout can show and undo.
//
// A revision's data is a patch that puts the template back; two revisions are the
// same when their data is. Revisions never change but for their number: a template
// that is used again gets the highest.
//
// # In Kubernetes
//
// pkg/controller/history/controller_history.go (realHistory) and getPatch of either
// controller. Left out: the fake. Without the count of collisions in the name, two
// templates of one hash would stop the rollout for ever.
package history

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"

	"hyperkube/controllers/podcontrol"
)

// ControllerRevisionHashLabel is the label of revisions that holds their hash.
const ControllerRevisionHashLabel = "controller.kubernetes.io/hash"

// History reads and writes the revisions of one kind of owner.
type History struct {
	Client kubernetes.Interface
	Lister appslisters.ControllerRevisionLister
	Kind   schema.GroupVersionKind
}

// Owner is what has revisions.
type Owner struct {
	Object   metav1.Object
	Selector *metav1.LabelSelector
	Template *corev1.PodTemplateSpec
	// Fresh reads the owner from the API, before an adoption.
	Fresh func(ctx context.Context) (metav1.Object, error)
}

// ControlledHistories claims the owner's revisions, oldest first.
func (h History) ControlledHistories(ctx context.Context, owner Owner) ([]*appsv1.ControllerRevision, error) {
	selector, err := metav1.LabelSelectorAsSelector(owner.Selector)
	if err != nil {
		return nil, err
	}
	candidates, err := h.Lister.ControllerRevisions(owner.Object.GetNamespace()).List(labels.Everything())
	if err != nil {
		return nil, err
	}
	manager := podcontrol.ControllerRefManager[*appsv1.ControllerRevision]{
		Controller: owner.Object, Kind: h.Kind, Selector: selector,
		CanAdopt: podcontrol.RecheckDeletionTimestamp(owner.Object.GetUID(), owner.Fresh),
		Patch: func(ctx context.Context, r *appsv1.ControllerRevision, patch []byte) error {
			_, err := h.Client.AppsV1().ControllerRevisions(r.Namespace).Patch(ctx, r.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
			return err
		},
	}
	revisions, err := manager.ClaimObjects(ctx, candidates)
	slices.SortFunc(revisions, func(a, b *appsv1.ControllerRevision) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return revisions, err
}

// UpdateRevision returns the revision of the owner's template now: a known one with
// the highest number, or a new one. collisionCount is raised by a collision.
func (h History) UpdateRevision(ctx context.Context, owner Owner, revisions []*appsv1.ControllerRevision, collisionCount *int32) (*appsv1.ControllerRevision, error) {
	data, err := templatePatch(owner.Template)
	if err != nil {
		return nil, err
	}
	next := int64(1)
	if n := len(revisions); n > 0 {
		next = revisions[n-1].Revision + 1
		if bytes.Equal(revisions[n-1].Data.Raw, data) {
			return revisions[n-1], nil
		}
	}
	client := h.Client.AppsV1().ControllerRevisions(owner.Object.GetNamespace())
	for _, known := range slices.Backward(revisions) {
		if bytes.Equal(known.Data.Raw, data) {
			raised := known.DeepCopy()
			raised.Revision = next
			return client.Update(ctx, raised, metav1.UpdateOptions{})
		}
	}
	for {
		revision := h.newRevision(owner, data, next, collisionCount)
		created, err := client.Create(ctx, revision, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			return created, err
		}
		// Ours, made by a turn that the cache does not show yet, or a collision.
		existing, err := client.Get(ctx, revision.Name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		if bytes.Equal(existing.Data.Raw, data) && metav1.IsControlledBy(existing, owner.Object) {
			return existing, nil
		}
		*collisionCount++
	}
}

func (h History) newRevision(owner Owner, data []byte, number int64, collisionCount *int32) *appsv1.ControllerRevision {
	hash := hashOf(data, collisionCount)
	set := maps.Clone(owner.Template.Labels)
	if set == nil {
		set = map[string]string{}
	}
	set[ControllerRevisionHashLabel] = hash
	set[appsv1.ControllerRevisionHashLabelKey] = hash
	return &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: owner.Object.GetNamespace(), Name: owner.Object.GetName() + "-" + hash, Labels: set,
			Annotations:     maps.Clone(owner.Object.GetAnnotations()),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner.Object, h.Kind)},
		},
		Data: runtime.RawExtension{Raw: data}, Revision: number,
	}
}

func hashOf(data []byte, collisionCount *int32) string {
	hasher := fnv.New32()
	hasher.Write(data)
	if *collisionCount != 0 {
		hasher.Write([]byte(strconv.Itoa(int(*collisionCount))))
	}
	return rand.SafeEncodeString(fmt.Sprint(hasher.Sum32()))
}

// templatePatch is the strategic merge patch that replaces an owner's template.
func templatePatch(template *corev1.PodTemplateSpec) ([]byte, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(template)
	if err != nil {
		return nil, err
	}
	content["$patch"] = "replace"
	return json.Marshal(map[string]any{"spec": map[string]any{"template": content}})
}

// TemplateOf is the template that the revision holds.
func TemplateOf(revision *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	var patch struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(revision.Data.Raw, &patch); err != nil {
		return nil, fmt.Errorf("reading revision %s: %w", revision.Name, err)
	}
	return &patch.Spec.Template, nil
}

// Truncate deletes the oldest revisions that are not live, down to limit.
func (h History) Truncate(ctx context.Context, revisions []*appsv1.ControllerRevision, limit int, live func(*appsv1.ControllerRevision) bool) error {
	old := slices.DeleteFunc(slices.Clone(revisions), live)
	for _, r := range old[:max(0, len(old)-limit)] {
		if err := h.Client.AppsV1().ControllerRevisions(r.Namespace).Delete(ctx, r.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}
