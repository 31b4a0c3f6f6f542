package integration

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"

	"hyperkube/apiserver"
)

// What clients get who want the same name, the same object, or more than they can take; each over a connection.

// A generated name that is taken is replaced by another, eight times; then the client is told to try again (KEP-4420).
func TestGeneratedNamesMeet(t *testing.T) {
	cluster := Start(t)
	var mu sync.Mutex
	var suffixes []string
	asked := 0
	cluster.Server.Env().NameSuffix = func() string {
		mu.Lock()
		defer mu.Unlock()
		asked++
		return suffixes[min(asked, len(suffixes))-1]
	}
	from := func(next ...string) {
		mu.Lock()
		defer mu.Unlock()
		suffixes, asked = next, 0
	}
	maps := cluster.Client.CoreV1().ConfigMaps("default")
	create := func(options metav1.CreateOptions) (*v1.ConfigMap, error) {
		return maps.Create(t.Context(), &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "web-"}}, options)
	}
	from("aaaaa")
	if created, err := create(metav1.CreateOptions{}); err != nil || created.Name != "web-aaaaa" {
		t.Fatalf("%v, %v", created, err)
	}
	from("aaaaa", "aaaaa", "aaaaa", "aaaaa", "aaaaa", "aaaaa", "aaaaa", "bbbbb")
	if created, err := create(metav1.CreateOptions{}); err != nil || created.Name != "web-bbbbb" {
		t.Errorf("the eighth name is free: %v, %v", created, err)
	}
	for _, options := range []metav1.CreateOptions{{}, {DryRun: []string{metav1.DryRunAll}}} {
		from("aaaaa")
		_, err := create(options)
		const text = `configmaps "web-aaaaa" already exists, the server was not able to generate a unique name for the object`
		if !apierrors.IsAlreadyExists(err) || err.Error() != text {
			t.Errorf("got %v, want %s", err, text)
		}
		if seconds, ok := apierrors.SuggestsClientDelay(err); !ok || seconds != 1 {
			t.Errorf("no advice to try again after a second: %d, %v", seconds, ok)
		}
		if asked != 8 {
			t.Errorf("%d names were tried", asked)
		}
	}
}

// Patches of one object at one time are none's conflict: the server makes each anew upon the newest version, for as long
// as the request lasts. Only a patch that names the version it is for is refused.
func TestPatchesAtOneTime(t *testing.T) {
	cluster := Start(t)
	maps, ctx := cluster.Client.CoreV1().ConfigMaps("default"), t.Context()
	first, err := maps.Create(ctx, &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const patchers, rounds = 8, 3
	var group sync.WaitGroup
	for p := range patchers {
		group.Go(func() {
			kind := []types.PatchType{types.MergePatchType, types.StrategicMergePatchType}[p%2]
			for round := range rounds {
				if _, err := maps.Patch(ctx, "a", kind, fmt.Appendf(nil, `{"data":{"p%d-%d":"x"}}`, p, round), metav1.PatchOptions{}); err != nil {
					t.Errorf("patch %d of %d: %v", round, p, err)
				}
			}
		})
	}
	group.Wait()
	if last, err := maps.Get(ctx, "a", metav1.GetOptions{}); err != nil || len(last.Data) != patchers*rounds {
		t.Errorf("%d of %d patches are there (%v)", len(last.Data), patchers*rounds, err)
	}
	_, err = maps.Patch(ctx, "a", types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"resourceVersion":%q},"data":{"late":"x"}}`, first.ResourceVersion), metav1.PatchOptions{})
	const text = `Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again`
	if !apierrors.IsConflict(err) || err.Error() != text {
		t.Errorf("got %v, want %s", err, text)
	}
	// With the version it is for, each loses to the others and comes again, as clients do.
	for p := range patchers {
		group.Go(func() {
			backoff := retry.DefaultBackoff
			backoff.Steps = 100
			if err := retry.RetryOnConflict(backoff, func() error {
				now, err := maps.Get(ctx, "a", metav1.GetOptions{})
				if err != nil {
					return err
				}
				_, err = maps.Patch(ctx, "a", types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"resourceVersion":%q},"data":{"v%d":"x"}}`, now.ResourceVersion, p), metav1.PatchOptions{})
				return err
			}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if last, err := maps.Get(ctx, "a", metav1.GetOptions{}); err != nil || len(last.Data) != patchers*(rounds+1) {
		t.Errorf("%d of %d patches are there (%v)", len(last.Data), patchers*(rounds+1), err)
	}
}

// A watcher that does not read is cut when too much waits for it: writers and other watchers never wait, and what waits
// is bounded. It finds what was sent before, then the end.
func TestSlowWatcherIsCut(t *testing.T) {
	const large = 100 << 10 // of an event
	cluster := Start(t, func(c *apiserver.Config) { c.WatchBuffer = 10 * large })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	maps := cluster.Client.CoreV1().ConfigMaps("default")
	obj, err := maps.Create(ctx, &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	slow := openSilentWatch(t, cluster.Config, "/api/v1/namespaces/default/configmaps?watch=true&resourceVersion="+obj.ResourceVersion)
	quick, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: obj.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer quick.Stop()
	sent := 0
	// What the sockets, the stream and the queue hold together is unknown, but it is not a thousand events.
	for ; cutWatchers(t, cluster) == 0; sent++ {
		if sent == 1000 {
			t.Fatal("1,000 events of 100 KiB, and nobody was cut")
		}
		obj.Data = map[string]string{"large": strings.Repeat("x", large), "turn": fmt.Sprint(sent)}
		if obj, err = maps.Update(ctx, obj, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		select {
		case event, open := <-quick.ResultChan():
			if !open || event.Object.(*v1.ConfigMap).Data["turn"] != fmt.Sprint(sent) {
				t.Fatalf("who reads did not get event %d: %v", sent, event)
			}
		case <-ctx.Done():
			t.Fatalf("who reads waits for event %d", sent)
		}
	}
	got := 0
	for lines := bufio.NewReaderSize(slow.Body, 1<<20); ; got++ {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // the stream has ended: with its last line, or within it
		}
		if !strings.Contains(line, fmt.Sprintf(`"turn":"%d"`, got)) {
			t.Fatalf("event %d is %.200s", got, line)
		}
	}
	if ctx.Err() != nil || got >= sent {
		t.Errorf("%d of %d events, and then %v: a cut watcher misses some", got, sent, ctx.Err())
	}
}

// openSilentWatch asks for a watch over a connection of its own that takes little, and reads no more than the head of the answer.
func openSilentWatch(t *testing.T, config *rest.Config, path string) *http.Response {
	t.Helper()
	secure, err := rest.TLSConfigFor(config)
	if err != nil {
		t.Fatal(err)
	}
	secure.NextProtos, secure.ServerName = []string{"http/1.1"}, "127.0.0.1"
	address := strings.TrimPrefix(config.Host, "https://")
	raw, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	if err := raw.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(raw, secure)
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, address); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", response, err)
	}
	return response
}

// cutWatchers is how many watchers of ConfigMaps the server says it has cut.
func cutWatchers(t *testing.T, cluster *Cluster) int {
	t.Helper()
	data, err := cluster.Client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		if _, err := fmt.Sscanf(line, `apiserver_terminated_watchers_total{group="",resource="configmaps"} %d`, &n); err == nil {
			return n
		}
	}
	return 0
}
