package cri

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"hyperkube/cri/network"
	"hyperkube/cri/podparent"
)

// adopt finds what a former life has left (R71):
//
//	Step 1: read each pod's directory. One without a record, or whose sandbox was
//	        not ready when we died, is taken apart: its maker never got an answer.
//	Step 2: read the containers of the others; half-made ones are removed.
//	Step 3: watch the parents that live. A sandbox whose parent is gone is broken,
//	        and what its containers left on the node is removed.
//	Step 4: disconnect what is still connected but belongs to nobody.
func (c *CRI) adopt(ctx context.Context) error {
	log := klog.FromContext(ctx)
	entries, err := os.ReadDir(c.podsDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		dir := filepath.Join(c.podsDir(), e.Name())
		// Step 1
		s, err := loadSandbox(dir)
		if err != nil || s.rec.Phase == creating {
			log.Info("Taking apart a pod that was not completed", "sandbox", e.Name(), "err", err)
			if err := c.discard(ctx, s, err == nil); err != nil {
				log.Error(err, "Taking apart a pod; the next start tries again", "sandbox", e.Name())
			}
			continue
		}
		// Step 2
		c.sandboxes[s.id] = s
		if err := c.adoptContainers(ctx, s); err != nil {
			return err
		}
		// Step 3
		if s.rec.Phase != ready {
			continue
		}
		if _, alive, _ := s.parent.State(); alive {
			c.work(func() { c.watchParent(s) })
		} else {
			c.parentDied(s)
		}
	}
	// Step 4
	for _, id := range c.network.Attached() {
		if s := c.sandboxes[id]; s == nil || s.rec.Phase == stopped {
			log.Info("Disconnecting a pod that does not exist any more", "sandbox", id)
			if err := c.network.Del(ctx, &network.Pod{ID: id}); err != nil {
				log.Error(err, "Disconnecting", "sandbox", id)
			}
		}
	}
	return nil
}

// discard removes a pod's directory, and what the node holds for it.
func (c *CRI) discard(ctx context.Context, s *sandbox, known bool) error {
	if known {
		// Containers are not in the maps: their cgroups are named by their directories.
		for _, id := range containerIDs(s) {
			if err := c.cgroups.Remove(filepath.Join(s.rec.Cgroup, id)); err != nil {
				return err
			}
		}
		if err := c.takeApart(ctx, s); err != nil {
			return err
		}
	} else if err := c.endParent(ctx, s); err != nil {
		return err
	}
	if err := unix.Unmount(s.shm(), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return err
	}
	return os.RemoveAll(s.dir)
}

func containerIDs(s *sandbox) (ids []string) {
	entries, _ := os.ReadDir(filepath.Join(s.dir, podparent.ContainersDir))
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return ids
}

func (c *CRI) adoptContainers(ctx context.Context, s *sandbox) error {
	for _, id := range containerIDs(s) {
		dir := filepath.Join(s.dir, podparent.ContainersDir, id)
		k, err := loadContainer(s, dir)
		if errors.Is(err, fs.ErrNotExist) {
			klog.FromContext(ctx).Info("Removing a container that was not completed", "container", id)
			if err := errors.Join(c.cgroups.Remove(filepath.Join(s.rec.Cgroup, id)), os.RemoveAll(dir)); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		k.status.ID = id
		if st, err := s.parent.ReadStatus(id); err == nil {
			k.take(*st)
		}
		c.containers[id] = k
	}
	return nil
}

// CleanUp removes everything of a runtime from the host: pods, network, cgroups,
// mounts. It may be repeated; images stay, as they are files only. No Run of this
// configuration may be active.
func CleanUp(ctx context.Context, cfg Config) error {
	c, err := New(cfg)
	if err != nil {
		return err
	}
	return c.cleanUp(ctx)
}

// CleanUp removes all pods and what the network has on the node. It is for the
// end of an orderly stop, after Run.
func (c *CRI) CleanUp(ctx context.Context) error { return c.cleanUp(ctx) }

func (c *CRI) cleanUp(ctx context.Context) error {
	var errs []error
	entries, err := os.ReadDir(c.podsDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	var parents []string
	for _, e := range entries {
		s, err := loadSandbox(filepath.Join(c.podsDir(), e.Name()))
		if err == nil && s.rec.OwnCgroup && !slices.Contains(parents, s.rec.Cgroup) {
			parents = append(parents, s.rec.Cgroup)
		}
		errs = append(errs, c.discard(ctx, s, err == nil))
	}
	for _, group := range parents {
		c.cgroups.RemoveEmpty(group, "/")
	}
	errs = append(errs, c.cgroups.Remove(c.cfg.CgroupRoot))
	c.cgroups.RemoveEmpty(filepath.Dir(c.cfg.CgroupRoot), "/")
	errs = append(errs, c.network.CleanUp(ctx))
	if err := os.Remove(c.cfg.Socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
