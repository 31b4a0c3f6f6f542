package storage

import (
	"context"
	"errors"
	"strconv"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/klog/v2"
)

// compactRevKey is upstream's: apiservers that share an etcd, ours or not, agree
// by it who compacts. Its version counts the turns, its value is the revision of the last.
const compactRevKey = "compact_rev_key"

// compactor drops etcd's history before the revision it saw one turn ago, so
// that every revision can be read for one interval at least.
type compactor struct {
	etcd    func() *clientv3.Client
	version int64 // of compactRevKey when last seen
	seen    int64 // etcd's revision then; 0: none yet
	oldest  func() int64
	known   int64 // up to where etcd's history is gone, by this process or another
}

// compact takes a turn every CompactionInterval until ctx ends.
func (h *Hub) compact(ctx context.Context) {
	logger := klog.FromContext(ctx)
	c := compactor{etcd: h.etcd, oldest: h.config.Oldest}
	ticker := h.config.Clock.NewTicker(h.config.CompactionInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
		compacted, err := c.turn(ctx)
		h.compacted.Store(c.known)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			logger.Error(err, "Compacting etcd; tried again in an interval")
		case compacted > 0:
			logger.V(2).Info("Compacted etcd", "revision", compacted)
		}
	}
}

// turn compacts once, if it is this process's turn, and returns up to which revision.
func (c *compactor) turn(ctx context.Context) (compacted int64, err error) {
	// Step 1: the first to move the key has the turn. The others learn the new
	// version, and with it that they must wait one interval from now.
	response, err := c.etcd().Txn(ctx).
		If(clientv3.Compare(clientv3.Version(compactRevKey), "=", c.version)).
		Then(clientv3.OpPut(compactRevKey, strconv.FormatInt(c.seen, 10))).
		Else(clientv3.OpGet(compactRevKey)).
		Commit()
	if err != nil {
		return 0, err
	}
	before := c.seen
	c.seen = response.Header.Revision
	if !response.Succeeded {
		if kvs := response.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
			c.version = kvs[0].Version
			if theirs, err := strconv.ParseInt(string(kvs[0].Value), 10, 64); err == nil {
				c.known = max(c.known, theirs)
			}
		} else {
			c.version = 0
		}
		return 0, nil
	}
	c.version++

	// Step 2: drop what was history one turn ago.
	if before == 0 {
		return 0, nil
	}
	if held := c.oldest(); held > 0 && held < before {
		before = held // somebody still stands there: see Config.Oldest
	}
	if _, err := c.etcd().Compact(ctx, before); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return 0, err
	}
	c.known = max(c.known, before)
	return before, nil
}
