package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"hyperkube/client"
	"hyperkube/client/informers"
	"hyperkube/component"
	"hyperkube/reconcile"
)

const (
	// Name is the provisioner's, by which classes ask for it.
	Name = "hyperkube.local/storage"
	// ClassName is the StorageClass that it brings along.
	ClassName = "local"
)

// Config is the provisioner's configuration.
type Config struct {
	Client kubernetes.Interface
	// NodesDir is DIR/nodes: each folder in it is a node that is served.
	NodesDir string
	// Gate holds keys; Metrics and Health may be nil.
	Gate    reconcile.Gate
	Metrics prometheus.Registerer
	Health  *component.Health
}

// Provisioner is the loop over claims and volumes.
type Provisioner struct {
	*reconcile.Loop
	Config
	informers    informers.SharedInformerFactory
	claimLister  corelisters.PersistentVolumeClaimLister
	volumeLister corelisters.PersistentVolumeLister
	classLister  storagelisters.StorageClassLister
	events       *client.EventBroadcaster
	recorder     record.EventRecorder
}

// New makes a provisioner.
func New(config Config) (*Provisioner, error) {
	if config.Client == nil || config.NodesDir == "" {
		return nil, errors.New("storage needs a client and the directory of the nodes")
	}
	factory := informers.NewSharedInformerFactory(config.Client, 0)
	claims, volumes, classes := factory.Core().V1().PersistentVolumeClaims(), factory.Core().V1().PersistentVolumes(), factory.Storage().V1().StorageClasses()
	p := &Provisioner{Config: config, informers: factory, claimLister: claims.Lister(), volumeLister: volumes.Lister(), classLister: classes.Lister()}
	p.Loop = reconcile.New("storage", p.sync, reconcile.Options{Workers: 4, Gate: config.Gate, Metrics: config.Metrics})
	p.Watch(claims.Informer(), func(e reconcile.Event) []string { return []string{"pvc/" + reconcile.KeyOf(e.Object())} })
	p.Watch(volumes.Informer(), func(e reconcile.Event) []string { return []string{"pv/" + e.Object().GetName()} })
	classes.Informer() // asked for, so that it is started; a class is only read
	// Last: whoever asks for health asks from now on, and asks the loop.
	config.Health.Add("caches", func(context.Context) error {
		if !p.Status().Synced {
			return errors.New("the first lists are not here yet")
		}
		return nil
	})
	return p, nil
}

// Run makes the class if it is missing, and serves claims until ctx ends.
func (p *Provisioner) Run(ctx context.Context) error {
	p.events = client.NewEventBroadcaster(record.WithContext(component.Outliving(ctx)))
	defer p.events.Shutdown()
	p.events.StartRecording(p.Client)
	p.recorder = p.events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: Name})
	p.informers.StartWithContext(ctx)
	defer p.informers.Shutdown()
	if err := p.informers.WaitForCacheSyncWithContext(ctx).Err; err != nil {
		return nil // stopped while waiting
	}
	if err := p.ensureClass(ctx); err != nil {
		return fmt.Errorf("making the storage class %s: %w", ClassName, err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.Loop.Run(ctx) })
	return group.Wait()
}

// ensureClass makes the class, once: who deletes it does not get it back before the next start. It is the default one
// unless there is another.
func (p *Provisioner) ensureClass(ctx context.Context) error {
	classes, err := p.Client.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	const isDefault = "storageclass.kubernetes.io/is-default-class"
	class := &storagev1.StorageClass{
		ObjectMeta:        metav1.ObjectMeta{Name: ClassName, Annotations: map[string]string{isDefault: "true"}},
		Provisioner:       Name,
		VolumeBindingMode: ptr.To(storagev1.VolumeBindingWaitForFirstConsumer), ReclaimPolicy: ptr.To(corev1.PersistentVolumeReclaimDelete),
		AllowVolumeExpansion: ptr.To(true),
	}
	for _, other := range classes.Items {
		if other.Name == ClassName {
			return nil
		}
		if other.Annotations[isDefault] == "true" {
			class.Annotations = nil
		}
	}
	_, err = p.Client.StorageV1().StorageClasses().Create(ctx, class, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// sync looks at one claim or volume.
func (p *Provisioner) sync(ctx context.Context, key string) (reconcile.Result, error) {
	kind, name, _ := strings.Cut(key, "/")
	if kind == "pv" {
		volume, err := p.volumeLister.Get(name)
		if err == nil {
			err = p.syncVolume(ctx, volume)
		}
		return reconcile.Done, gone(err)
	}
	claimName, err := cache.ParseObjectName(name)
	if err != nil {
		return reconcile.Done, nil
	}
	claim, err := p.claimLister.PersistentVolumeClaims(claimName.Namespace).Get(claimName.Name)
	if err == nil {
		err = p.syncClaim(ctx, claim)
	}
	return reconcile.Done, gone(err)
}

// gone: what does not exist any more needs nothing.
func gone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// syncClaim makes a volume for a claim that waits for one of ours, or resizes the one it has.
func (p *Provisioner) syncClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	switch {
	case claim.DeletionTimestamp != nil || claim.Annotations[storagehelpers.AnnStorageProvisioner] != Name:
		return nil
	case claim.Spec.VolumeName != "":
		return p.resize(ctx, claim)
	}
	class, err := p.classLister.Get(storagehelpers.GetPersistentVolumeClaimClass(claim))
	if err != nil {
		return err // the class's owner has taken it away: the claim stays as it is
	}
	node := claim.Annotations[storagehelpers.AnnSelectedNode]
	if node == "" && ptr.Deref(class.VolumeBindingMode, storagev1.VolumeBindingImmediate) == storagev1.VolumeBindingWaitForFirstConsumer {
		return nil // the scheduler's turn
	}
	if reason := unsupported(claim, class, node); reason != "" {
		p.recorder.Eventf(claim, corev1.EventTypeWarning, "ProvisioningFailed", "failed to provision volume with StorageClass %q: %s", class.Name, reason)
		return p.giveBack(ctx, claim)
	}
	if !p.serves(node) {
		return nil // another machine's
	}
	p.recorder.Eventf(claim, corev1.EventTypeNormal, "Provisioning", "External provisioner is provisioning volume for claim %q", reconcile.KeyOf(claim))
	volume, err := p.provision(ctx, claim, class, node)
	if err != nil {
		p.recorder.Eventf(claim, corev1.EventTypeWarning, "ProvisioningFailed", "failed to provision volume with StorageClass %q: %v", class.Name, err)
		return fmt.Errorf("provisioning a volume for claim %s: %w", reconcile.KeyOf(claim), err)
	}
	p.recorder.Eventf(claim, corev1.EventTypeNormal, "ProvisioningSucceeded", "Successfully provisioned volume %s", volume.Name)
	klog.FromContext(ctx).V(2).Info("Provisioned a volume", "claim", klog.KObj(claim), "volume", volume.Name, "path", volume.Spec.Local.Path)
	return nil
}

// serves says whether a node lives in our data directory.
func (p *Provisioner) serves(node string) bool {
	if node == "" || node != filepath.Base(node) || node == "." || node == ".." {
		return false
	}
	info, err := os.Stat(filepath.Join(p.NodesDir, node))
	return err == nil && info.IsDir()
}

// syncVolume deletes a volume of ours that is no longer needed.
func (p *Provisioner) syncVolume(ctx context.Context, volume *corev1.PersistentVolume) error {
	if volume.Annotations[storagehelpers.AnnDynamicallyProvisioned] != Name {
		return nil
	}
	node := nodeOf(volume)
	if !p.serves(node) {
		return nil
	}
	if err := p.delete(ctx, volume, node); err != nil {
		if !apierrors.IsConflict(err) {
			p.recorder.Event(volume, corev1.EventTypeWarning, "VolumeFailedDelete", err.Error())
		}
		return fmt.Errorf("deleting volume %s: %w", volume.Name, err)
	}
	return nil
}
