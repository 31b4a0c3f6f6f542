package storage

import (
	"bytes"
	"fmt"
	"os"
)

// mutationDetectorEnv is upstream's switch. With it, a cached object that some
// reader has changed ends the process when the object leaves the cache; without,
// every other reader would see the change and nobody would know whose it is.
const mutationDetectorEnv = "KUBE_CACHE_MUTATION_DETECTOR"

// mutationDetector remembers what cached objects looked like when they came. A
// nil one does nothing.
type mutationDetector struct {
	seen map[*Object][]byte
}

func newMutationDetector() *mutationDetector {
	if os.Getenv(mutationDetectorEnv) != "true" {
		return nil
	}
	return &mutationDetector{seen: map[*Object][]byte{}}
}

func (d *mutationDetector) added(o *Object) {
	if d != nil {
		d.seen[o], _ = o.resource.encodeJSON(o.Object)
	}
}

// removed panics if o is not what it was.
func (d *mutationDetector) removed(o *Object) {
	if d == nil || o == nil {
		return
	}
	was, now := d.seen[o], []byte(nil)
	delete(d.seen, o)
	if now, _ = o.resource.encodeJSON(o.Object); !bytes.Equal(was, now) {
		panic(fmt.Sprintf("storage: the cached %s %s was changed by a reader:\nwas %s\nis  %s", o.resource.kind.Kind, o.Key, was, now))
	}
}
