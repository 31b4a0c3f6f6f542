package apiserver

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
)

const (
	identityLabel = "apiserver.kubernetes.io/identity"
	identityKind  = "kube-apiserver"
	// identityDuration is for how long a lease is good that nobody renews; each turn of the bootstrap does.
	identityDuration = time.Hour
	// identityCleaning is how often the leases of apiservers that died are looked for.
	identityCleaning = time.Hour
	identityFarewell = 2 * time.Second
)

var leases = schema.GroupResource{Group: coordinationv1.GroupName, Resource: "leases"}

// identity is one life of this apiserver, as the Lease that tells of it: kube-system/apiserver-<hash of the host's name>. Who runs
// several apiservers sees there which of them live.
type identity struct {
	name, holder, host string
	told               bool      // its lease has been made
	cleaned            time.Time // when it last looked for those of others that died
}

func newIdentity() (*identity, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("apiserver: naming itself: %w", err)
	}
	name := identityName(host)
	return &identity{name: name, holder: name + "_" + string(uuid.NewUUID()), host: host}, nil
}

// identityName hashes the host's name and the kind of server, each behind its length.
func identityName(host string) string {
	var data []byte
	for _, part := range []string{host, identityKind} {
		data = append(binary.BigEndian.AppendUint16(data, uint16(len(part))), part...)
	}
	hash := sha256.Sum256(data)
	return "apiserver-" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(hash[:16]))
}

// identify makes or renews the lease:
//
//	Step 1: of a former life, it goes: whoever watches sees that this is another.
//	Step 2: it is made, or renewed.
//	Step 3: once in a while, those of apiservers that have not renewed theirs go.
func (s *Server) identify(ctx context.Context) error {
	store := s.env.Store(leases)
	if store == nil {
		return nil
	}
	id := s.identity
	// Step 1
	if !id.told {
		if err := s.forget(ctx); err != nil {
			return err
		}
	}
	// Step 2
	err := s.renew(ctx)
	if apierrors.IsNotFound(err) {
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: id.name, Namespace: metav1.NamespaceSystem}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &id.holder}}
		_, err = store.CreateObject(ctx, metav1.NamespaceSystem, s.renewed(lease), &metav1.CreateOptions{})
	}
	if err != nil {
		return err
	}
	id.told = true
	// Step 3
	return s.cleanIdentities(ctx)
}

func (s *Server) renew(ctx context.Context) error {
	_, err := s.env.Store(leases).UpdateObject(ctx, metav1.NamespaceSystem, s.identity.name, func(current runtime.Object) (runtime.Object, error) {
		return s.renewed(current.(*coordinationv1.Lease)), nil
	}, &metav1.UpdateOptions{})
	return err
}

// renewed is the lease as it is to be from now on.
func (s *Server) renewed(lease *coordinationv1.Lease) *coordinationv1.Lease {
	metav1.SetMetaDataLabel(&lease.ObjectMeta, identityLabel, identityKind)
	metav1.SetMetaDataLabel(&lease.ObjectMeta, corev1.LabelHostname, s.identity.host)
	if address, ok := s.advertiseAddress(); ok {
		at := net.JoinHostPort(address.String(), strconv.Itoa(int(addressPort(s.Address()))))
		metav1.SetMetaDataAnnotation(&lease.ObjectMeta, corev1.AnnotationPeerAdvertiseAddress, at)
	}
	lease.Spec.LeaseDurationSeconds = ptr.To(int32(identityDuration.Seconds()))
	lease.Spec.RenewTime = &metav1.MicroTime{Time: s.env.Clock.Now()}
	return lease
}

// cleanIdentities removes the leases that no apiserver renews any more.
func (s *Server) cleanIdentities(ctx context.Context) error {
	now := s.env.Clock.Now()
	if now.Sub(s.identity.cleaned) < identityCleaning {
		return nil
	}
	s.identity.cleaned = now
	found, err := s.env.Store(leases).ListCached(ctx, metav1.NamespaceSystem, labels.SelectorFromSet(labels.Set{identityLabel: identityKind}))
	if err != nil {
		return err
	}
	for _, obj := range found {
		lease := obj.(*coordinationv1.Lease)
		if lease.Spec.RenewTime != nil && lease.Spec.LeaseDurationSeconds != nil &&
			now.Before(lease.Spec.RenewTime.Add(time.Duration(*lease.Spec.LeaseDurationSeconds)*time.Second)) {
			continue
		}
		// Of this state only: it may have come back to life since.
		options := &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &lease.UID, ResourceVersion: &lease.ResourceVersion}}
		if _, _, err := s.env.Store(leases).DeleteObject(ctx, lease.Namespace, lease.Name, options); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return err
		}
	}
	return nil
}

// forget removes the own lease: at the start that of a former life, at the end this one's.
func (s *Server) forget(ctx context.Context) error {
	_, _, err := s.env.Store(leases).DeleteObject(ctx, metav1.NamespaceSystem, s.identity.name, &metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// sayFarewell lets others see at once that this apiserver has stopped. It does not wait for an etcd that is gone.
func (s *Server) sayFarewell(ctx context.Context) {
	if !s.identity.told {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), identityFarewell)
	defer cancel()
	if err := s.forget(ctx); err != nil {
		klog.FromContext(ctx).V(1).Info("The lease that tells of this apiserver stays behind", "err", err)
	}
}
