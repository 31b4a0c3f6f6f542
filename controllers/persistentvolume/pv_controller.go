package persistentvolume

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	storagehelpers "k8s.io/component-helpers/storage/volume"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// Controller is the loop over claims and volumes.
type Controller struct {
	*reconcile.Loop
	client       kubernetes.Interface
	recorder     record.EventRecorder
	claimLister  corelisters.PersistentVolumeClaimLister
	volumeLister corelisters.PersistentVolumeLister
	classLister  storagelisters.StorageClassLister
	podLister    corelisters.PodLister
}

// New makes the controller. It has one worker, whatever options say.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, recorder record.EventRecorder, options reconcile.Options) *Controller {
	options.Workers = 1
	core := factory.Core().V1()
	claims, volumes, pods, classes := core.PersistentVolumeClaims(), core.PersistentVolumes(), core.Pods(), factory.Storage().V1().StorageClasses()
	ctrl := &Controller{client: client, recorder: recorder, claimLister: claims.Lister(), volumeLister: volumes.Lister(),
		classLister: classes.Lister(), podLister: pods.Lister()}
	ctrl.Loop = reconcile.New("persistentvolumebinder", ctrl.sync, options)
	ctrl.Watch(claims.Informer(), ctrl.keysOfClaim)
	ctrl.Watch(volumes.Informer(), ctrl.keysOfVolume)
	ctrl.Watch(classes.Informer(), ctrl.keysOfClass)
	ctrl.Watch(pods.Informer(), keysOfPod)
	return ctrl
}

// sync looks at one claim or volume.
func (ctrl *Controller) sync(ctx context.Context, key string) (reconcile.Result, error) {
	kind, name, _ := strings.Cut(key, "/")
	if kind == "pv" {
		volume, err := ctrl.volumeLister.Get(name)
		if err == nil {
			err = ctrl.syncVolume(ctx, volume)
		}
		return reconcile.Done, about("volume "+name, err)
	}
	claimName, err := cache.ParseObjectName(name)
	if err != nil {
		return reconcile.Done, nil
	}
	claim, err := ctrl.claimLister.PersistentVolumeClaims(claimName.Namespace).Get(claimName.Name)
	if err == nil {
		err = ctrl.syncClaim(ctx, claim)
	}
	return reconcile.Done, about("claim "+name, err)
}

// about names the object in an error. One that is gone needs nothing any more: its own event looks
// after the other half.
func about(object string, err error) error {
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("syncing %s: %w", object, err)
}

// syncClaim: the annotation bind-completed says that a claim was bound before, whatever became of its volume.
func (ctrl *Controller) syncClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	if metav1.HasAnnotation(claim.ObjectMeta, storagehelpers.AnnBindCompleted) {
		return ctrl.syncBoundClaim(ctx, claim)
	}
	if claim.Spec.VolumeName != "" {
		return ctrl.syncPreboundClaim(ctx, claim)
	}
	return ctrl.syncUnboundClaim(ctx, claim)
}

// syncUnboundClaim finds a volume for a claim that takes any that fits; otherwise it asks for one to be made, or says
// why nothing happens.
func (ctrl *Controller) syncUnboundClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	delayBinding, err := storagehelpers.IsDelayBindingMode(claim, ctrl.classLister)
	if err != nil {
		return err
	}
	volume, err := ctrl.findBestMatchForClaim(claim, delayBinding)
	if err != nil {
		return err
	}
	if volume != nil {
		return ctrl.bind(ctx, volume, claim)
	}
	if assigned, err := ctrl.assignDefaultStorageClass(ctx, claim); assigned || err != nil {
		return err // the update brings the claim back here, with its class
	}
	switch {
	case delayBinding && !storagehelpers.IsDelayBindingProvisioning(claim):
		err = ctrl.recordWaiting(claim) // the scheduler's turn
	case storagehelpers.GetPersistentVolumeClaimClass(claim) != "":
		return ctrl.provisionClaim(ctx, claim) // the new volume brings the claim back here
	default:
		ctrl.recorder.Event(claim, corev1.EventTypeNormal, "FailedBinding", "no persistent volumes available for this claim and no storage class is set")
	}
	if err != nil {
		return err
	}
	_, err = ctrl.updateClaimStatus(ctx, claim, corev1.ClaimPending, nil) // a new volume or class brings the claim back here
	return err
}

// syncPreboundClaim binds a claim that names its volume to that one, or waits for it to be there and free.
func (ctrl *Controller) syncPreboundClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	volume, err := ctrl.volumeLister.Get(claim.Spec.VolumeName)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	switch {
	case err != nil:
		// It may be made yet.
	case volume.Spec.ClaimRef == nil:
		mismatch := checkVolumeSatisfyClaim(volume, claim)
		if mismatch == nil {
			return ctrl.bind(ctx, volume, claim)
		}
		ctrl.recorder.Eventf(claim, corev1.EventTypeWarning, "VolumeMismatch", "Cannot bind to requested volume %q: %s", volume.Name, mismatch)
	case storagehelpers.IsVolumeBoundToClaim(volume, claim):
		return ctrl.bind(ctx, volume, claim) // both name each other: only the claim's UID is missing
	case metav1.HasAnnotation(claim.ObjectMeta, storagehelpers.AnnBoundByController):
		// Somebody has taken bind-completed away. To guess would be to lose data.
		return fmt.Errorf("invalid binding of claim %s/%s to volume %q: volume already claimed by %s/%s",
			claim.Namespace, claim.Name, volume.Name, volume.Spec.ClaimRef.Namespace, volume.Spec.ClaimRef.Name)
	default:
		ctrl.recorder.Eventf(claim, corev1.EventTypeWarning, "FailedBinding", "volume %q already bound to a different claim.", volume.Name)
	}
	_, err = ctrl.updateClaimStatus(ctx, claim, corev1.ClaimPending, nil) // the volume's next change brings the claim back here
	return err
}

// syncBoundClaim repairs the binding of a claim that had one, and says when its volume is lost.
func (ctrl *Controller) syncBoundClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	if claim.Spec.VolumeName == "" {
		return ctrl.loseClaim(ctx, claim, "ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
	}
	volume, err := ctrl.volumeLister.Get(claim.Spec.VolumeName)
	if apierrors.IsNotFound(err) {
		// A cache that is behind must not cost anybody a volume: Lost is for ever.
		volume, err = ctrl.client.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{})
	}
	switch {
	case apierrors.IsNotFound(err):
		return ctrl.loseClaim(ctx, claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
	case err != nil:
		return err
	case volume.Spec.ClaimRef == nil || volume.Spec.ClaimRef.UID == claim.UID:
		return ctrl.bind(ctx, volume, claim) // which writes nothing when all is well
	}
	return ctrl.loseClaim(ctx, claim, "ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
}

// loseClaim ends a claim's life as a bound one; the event is made once.
func (ctrl *Controller) loseClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim, reason, message string) error {
	if claim.Status.Phase == corev1.ClaimLost {
		return nil
	}
	updated, err := ctrl.updateClaimStatus(ctx, claim, corev1.ClaimLost, nil)
	if err != nil {
		return err
	}
	ctrl.recorder.Event(updated, corev1.EventTypeWarning, reason, message)
	return nil
}
