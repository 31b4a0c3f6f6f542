package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestLogRotation: a container that talks a lot has a bounded number of log files,
// the older ones compressed, and `kubectl logs` goes on with the newest.
func TestLogRotation(t *testing.T) {
	c := withKubelet(t, nil, "--container-log-max-size=20Ki", "--container-log-max-files=3")
	r := c.room(t)
	r.create(t, talker)
	r.ready(t, "talker")
	uid := r.field(t, "pod/talker", ".metadata.uid")
	pattern := filepath.Join(c.dir, "nodes", "*", "kubelet", "logs", "pods", r.ns+"_talker_"+uid, "c", "0.log*")
	eventually(t, "logs are rotated and compressed", func() error {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		if len(files) > 3 {
			t.Errorf("more than 3 files: %v", files)
		}
		for _, file := range files {
			if strings.HasSuffix(file, ".gz") {
				return nil
			}
		}
		return fmt.Errorf("%v", files)
	})
	// Whatever was said before the rotation, what is said now is there.
	r.sh(t, "talker", "echo the-last-word > /proc/1/fd/1")
	eventually(t, "the log goes on", func() error {
		if out := r.k(t, "logs", "talker", "--tail=2000"); !strings.Contains(out, "the-last-word") {
			return fmt.Errorf("%d bytes without it", len(out))
		}
		return nil
	})
}

const talker = `
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: hyperkube.local/demo
    command: [sh, -c, "while true; do for i in 1 2 3 4 5 6 7 8 9 0; do echo line after line of talk that nobody reads but the disk, which takes it all; done; sleep 0.05; done"]
`
