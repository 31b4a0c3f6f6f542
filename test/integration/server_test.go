package integration

import (
	"context"
	"runtime"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
)

// An apiserver is there fast enough for a test of its own (DESIGN.md, section 6), and says what it is.
func TestStart(t *testing.T) {
	start := time.Now()
	c := Start(t)
	t.Logf("ready after %s", time.Since(start))
	version, err := c.Client.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if version.Major != "1" || version.Minor < "37" {
		t.Errorf("version is %s", version)
	}
	body, err := c.Client.CoreV1().RESTClient().Get().AbsPath("/readyz").Param("verbose", "1").DoRaw(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", body)
}

// A server that stops ends its watches and leaves nothing behind, however often it is started in one process.
func TestStopLeavesNothing(t *testing.T) {
	c := Start(t)
	baseline := 0
	for i := range 6 {
		watcher, err := c.Client.CoreV1().Pods("").Watch(context.Background(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Client.CoreV1().Namespaces().List(context.Background(), metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		c.Stop()
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("stop %d took %s", i, took)
		}
		for range watcher.ResultChan() {
		}
		utilnet.CloseIdleConnectionsFor(c.Client.CoreV1().RESTClient().(*rest.RESTClient).Client.Transport)
		if i == 1 {
			baseline = settled(0)
		}
		if i < 5 {
			c.Run("127.0.0.1:0")
		}
	}
	if left := settled(baseline); left > baseline {
		t.Errorf("%d goroutines after the second stop, %d after the sixth", baseline, left)
	}
}

// settled waits a moment for goroutines to end until no more than wanted are left, and counts them.
func settled(wanted int) int {
	n := runtime.NumGoroutine()
	for range 40 {
		if n <= wanted {
			break
		}
		time.Sleep(25 * time.Millisecond)
		n = runtime.NumGoroutine()
	}
	return n
}
