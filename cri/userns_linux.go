package cri

import (
	"fmt"
	"os"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"hyperkube/cri/podparent"
)

// A user namespace is the pod's own when the kubelet says which numbers it has
// (hostUsers: false). How its containers come into it is told in
// `cri/podparent/midwife_linux.go:settle`.

// userNamespace is the pod's own; nil if it shares the node's.
func userNamespace(options *runtimeapi.NamespaceOption) *runtimeapi.UserNamespace {
	if users := options.GetUsernsOptions(); users != nil && users.Mode == runtimeapi.NamespaceMode_POD {
		return users
	}
	return nil
}

// checkUserNamespace refuses what the kernel would refuse less clearly, or worse, allow.
func (c *CRI) checkUserNamespace(options *runtimeapi.NamespaceOption) error {
	users := options.GetUsernsOptions()
	if users == nil || users.Mode == runtimeapi.NamespaceMode_NODE {
		return nil
	}
	refuse := func(format string, args ...any) error {
		return status.Errorf(codes.InvalidArgument, "user namespace: "+format, args...)
	}
	switch {
	case users.Mode != runtimeapi.NamespaceMode_POD:
		return refuse("mode %s is not supported, only POD and NODE are", users.Mode)
	case c.noUserNS != nil:
		return status.Errorf(codes.FailedPrecondition, "user namespace: this node cannot make any: %v", c.noUserNS)
	case options.Network == runtimeapi.NamespaceMode_NODE || options.Pid == runtimeapi.NamespaceMode_NODE || options.Ipc == runtimeapi.NamespaceMode_NODE:
		return refuse("a pod with one cannot share the node's network, PID or IPC namespace")
	}
	for kind, maps := range map[string][]*runtimeapi.IDMapping{"user": users.Uids, "group": users.Gids} {
		if len(maps) == 0 {
			return refuse("no %s IDs are mapped", kind)
		}
		root, mapped := podparent.OnHost(idMaps(maps), 0)
		if !mapped {
			return refuse("%s ID 0 must be mapped", kind)
		}
		if root == 0 {
			return refuse("%s ID 0 must not be the node's", kind)
		}
	}
	return nil
}

func idMaps(maps []*runtimeapi.IDMapping) (out []podparent.IDMap) {
	for _, m := range maps {
		out = append(out, podparent.IDMap{Container: m.ContainerId, Host: m.HostId, Size: m.Length})
	}
	return out
}

func (s *sandbox) idMaps() (uids, gids []podparent.IDMap) {
	users := userNamespace(s.rec.Config.GetLinux().GetSecurityContext().GetNamespaceOptions())
	return idMaps(users.GetUids()), idMaps(users.GetGids())
}

// checkContainerUsers refuses a container with other users than its pod's: there is
// one user namespace a pod.
func (s *sandbox) checkContainerUsers(options *runtimeapi.NamespaceOption) error {
	uids, gids := s.idMaps()
	own := userNamespace(options)
	if own != nil && (!slices.Equal(idMaps(own.Uids), uids) || !slices.Equal(idMaps(own.Gids), gids)) {
		return status.Error(codes.InvalidArgument, "the container's user namespace is not its pod's")
	}
	return nil
}

// ownUsers says whether the pod has a user namespace of its own.
func (s *sandbox) ownUsers() bool {
	uids, _ := s.idMaps()
	return len(uids) > 0
}

// giveToRoot makes the pod's root the owner of a directory that belongs to the pod alone.
func (s *sandbox) giveToRoot(dir string) error {
	uids, gids := s.idMaps()
	if len(uids) == 0 {
		return nil
	}
	uid, _ := podparent.OnHost(uids, 0)
	gid, _ := podparent.OnHost(gids, 0)
	return os.Chown(dir, int(uid), int(gid))
}

// idMapped says whether a mount shows its files' owners as the pod's numbers.
// There is one user namespace a pod, so there is one way to show them.
func (b *specBuilder) idMapped(m *runtimeapi.Mount) (bool, error) {
	if len(m.UidMappings) == 0 && len(m.GidMappings) == 0 {
		return false, nil
	}
	uids, gids := b.s.idMaps()
	if !slices.Equal(idMaps(m.UidMappings), uids) || !slices.Equal(idMaps(m.GidMappings), gids) {
		return false, fmt.Errorf("mount %s: its ID mappings are not those of its pod's user namespace", m.ContainerPath)
	}
	return true, nil
}
