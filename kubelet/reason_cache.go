package kubelet

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"

	kubecontainer "hyperkube/kubelet/container"
)

// reasonCache remembers why a container could not be started, from the sync that
// found out to the one that can: the runtime knows nothing of what was never made.
type reasonCache struct {
	mu   sync.Mutex
	pods map[types.UID]map[string]*kubecontainer.SyncResult
}

func newReasonCache() *reasonCache {
	return &reasonCache{pods: map[types.UID]map[string]*kubecontainer.SyncResult{}}
}

// Update takes the results of one SyncPod: a success clears, a failure replaces.
func (c *reasonCache) Update(uid types.UID, result kubecontainer.PodSyncResult) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range result.SyncResults {
		if r.Action != kubecontainer.StartContainer {
			continue
		}
		if r.Error == nil {
			delete(c.pods[uid], r.Target)
			continue
		}
		if c.pods[uid] == nil {
			c.pods[uid] = map[string]*kubecontainer.SyncResult{}
		}
		c.pods[uid][r.Target] = r
	}
}

// Get returns why the container waits.
func (c *reasonCache) Get(uid types.UID, container string) (error, string) { //nolint:revive // reason first, as it is read
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.pods[uid][container]; r != nil {
		return r.Error, r.Message
	}
	return nil, ""
}

// Remove forgets a pod.
func (c *reasonCache) Remove(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pods, uid)
}
