package clients

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"hyperkube/apiserver"
	"hyperkube/etcd"
	"hyperkube/pki"
	"hyperkube/test/integration"
)

const (
	// serverDir and serverAddress are in the environment of a process that is etcd and apiserver, and to be killed.
	serverDir, serverAddress = "HYPERKUBE_TEST_SERVER_DIR", "HYPERKUBE_TEST_SERVER_ADDRESS"
	writers                  = 16
)

// TestServerProcess is no test: it is what TestNothingAcknowledgedIsLost kills.
func TestServerProcess(t *testing.T) {
	path := os.Getenv(serverDir)
	if path == "" {
		t.Skip("runs as a process of another test")
	}
	dir, err := pki.Open(path, pki.DefaultCluster())
	if err != nil {
		t.Fatal(err)
	}
	socket := "unix://" + filepath.Join(path, "etcd.sock")
	store, err := etcd.New(etcd.Config{DataDir: filepath.Join(path, "etcd"), ListenAddress: socket, Heartbeat: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := dir.ServingCert("apiserver", "127.0.0.1", "localhost")
	if err != nil {
		t.Fatal(err)
	}
	server, err := apiserver.New(apiserver.Config{
		BindAddress: os.Getenv(serverAddress), AdvertiseAddress: "192.0.2.1", CertFile: cert.CertFile, KeyFile: cert.KeyFile,
		ClientCAFile: dir.CAFile(), ServiceAccountKeyFile: dir.ServiceAccountKeyFile(), EtcdServers: []string{socket},
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	go func() { ended <- store.Run(t.Context()) }()
	go func() { ended <- server.Run(t.Context()) }()
	t.Fatal(<-ended)
}

// process is one life of the server.
type process struct {
	command *exec.Cmd
	maps    typedcorev1.ConfigMapInterface
}

func startProcess(t *testing.T, path, address string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{command: exec.Command(self, "-test.run", "^TestServerProcess$")}
	p.command.Env = append(os.Environ(), serverDir+"="+path, serverAddress+"="+address)
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	dir, err := pki.Open(path, pki.DefaultCluster())
	if err != nil {
		t.Fatal(err)
	}
	admin, err := dir.ClientCert("admin", "kubernetes-admin", "system:masters")
	if err != nil {
		t.Fatal(err)
	}
	client := kubernetes.NewForConfigOrDie(&rest.Config{Host: "https://" + address, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAFile: dir.CAFile(), CertFile: admin.CertFile, KeyFile: admin.KeyFile}})
	p.maps = client.CoreV1().ConfigMaps("default")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		if _, err = client.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err == nil {
			return p
		}
		if ctx.Err() != nil {
			t.Fatalf("the server is not ready: %v", err)
		}
	}
}

// kill ends it as a power cut ends a process: nothing is flushed, nobody is told.
func (p *process) kill() {
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
}

// fate is what may be true of an object: the last acknowledged write, and one that was asked for and not answered.
type fate struct {
	version int64 // of the acknowledged write; 0: gone, or never there
	value   string
	// maybe is the value of an unanswered write; maybeGone: the unanswered write is a deletion.
	maybe     string
	maybeGone bool
}

// ledger is what all writers were told.
type ledger struct {
	mu    sync.Mutex
	fates map[string]fate
	// acknowledged counts answers since the start of this life.
	acknowledged atomic.Int64
}

func (l *ledger) set(name string, f fate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fates[name] = f
}

// write makes objects, changes each, and deletes every third, until the server no longer answers.
func (l *ledger) write(ctx context.Context, maps typedcorev1.ConfigMapInterface, prefix string) {
	for n := 0; ; n++ {
		name := fmt.Sprintf("%s-%d", prefix, n)
		l.set(name, fate{maybe: "1"})
		m, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"v": "1"}}, metav1.CreateOptions{})
		if err != nil {
			return
		}
		l.acknowledged.Add(1)
		l.set(name, fate{version: version(m), value: "1", maybe: "2"})
		m.Data["v"] = "2"
		if m, err = maps.Update(ctx, m, metav1.UpdateOptions{}); err != nil {
			return
		}
		l.acknowledged.Add(1)
		l.set(name, fate{version: version(m), value: "2", maybeGone: n%3 == 0})
		if n%3 != 0 {
			continue
		}
		if err := maps.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			return
		}
		l.acknowledged.Add(1)
		l.set(name, fate{})
	}
}

func version(m *corev1.ConfigMap) int64 {
	n, _ := strconv.ParseInt(m.ResourceVersion, 10, 64)
	return n
}

// judge compares what is there with what the writers were told.
func (l *ledger) judge(t *testing.T, list *corev1.ConfigMapList) {
	t.Helper()
	there := map[string]*corev1.ConfigMap{}
	for i := range list.Items {
		there[list.Items[i].Name] = &list.Items[i]
	}
	for name, f := range l.fates {
		m := there[name]
		switch {
		case m == nil && f.version != 0 && !f.maybeGone:
			t.Errorf("%s: acknowledged at %d, and gone", name, f.version)
		case m == nil:
		case version(m) == f.version && m.Data["v"] == f.value:
		case f.maybe != "" && m.Data["v"] == f.maybe && version(m) > f.version:
		default:
			t.Errorf("%s: is %q at %d, was acknowledged as %q at %d (unanswered: %q)", name, m.Data["v"], version(m), f.value, f.version, f.maybe)
		}
		// From here on it is known.
		if m != nil {
			l.fates[name] = fate{version: version(m), value: m.Data["v"]}
		} else {
			l.fates[name] = fate{}
		}
	}
}

// seen is a watcher that follows the server through its lives.
type seen struct {
	last   int64
	values map[string]int64 // by name: the version last seen
}

// follow reads a watch until it ends or reaches a version, and returns whether it must list anew.
func (s *seen) follow(t *testing.T, ctx context.Context, maps typedcorev1.ConfigMapInterface, until int64) (expired bool) {
	watcher, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: strconv.FormatInt(s.last, 10), AllowWatchBookmarks: true})
	if err != nil {
		return apierrors.IsResourceExpired(err)
	}
	defer watcher.Stop()
	for event := range watcher.ResultChan() {
		if event.Type == watch.Error {
			return apierrors.IsResourceExpired(apierrors.FromObject(event.Object))
		}
		m := event.Object.(*corev1.ConfigMap)
		if v := version(m); v < s.last {
			t.Errorf("%s of %s at %d after %d", event.Type, m.Name, v, s.last)
		} else {
			s.last = v
		}
		switch event.Type {
		case watch.Added, watch.Modified:
			s.values[m.Name] = version(m)
		case watch.Deleted:
			delete(s.values, m.Name)
		}
		if until > 0 && s.last >= until {
			return false
		}
	}
	return false
}

// Issue 4: nothing that was acknowledged is lost, whenever the process is killed, and who watches from the last version it
// saw misses nothing. HYPERKUBE_KILLS says how often it is killed; HYPERKUBE_SEED repeats a run.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	kills, seed := number("HYPERKUBE_KILLS", 3), uint64(number("HYPERKUBE_SEED", int(time.Now().UnixNano()&0xffffff)))
	t.Logf("HYPERKUBE_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	path, err := os.MkdirTemp("", "hk") // not t.TempDir(): the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(path) })
	address := integration.FreePort(t)
	l, s := &ledger{fates: map[string]fate{}}, &seen{values: map[string]int64{}}
	for life := range kills + 1 {
		p := startProcess(t, path, address)
		list, err := p.maps.List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		l.judge(t, list)
		s.resume(t, p.maps, list)
		if life < kills {
			l.live(t, p, s, fmt.Sprintf("l%d", life), int64(1+random.IntN(400)))
		}
		p.kill()
	}
	t.Logf("%d objects", len(l.fates))
}

// resume catches up with a server's new life: what was written at the end of the last one, and never delivered, comes from
// the watch's past, or from a list where the server says that its past is gone.
func (s *seen) resume(t *testing.T, maps typedcorev1.ConfigMapInterface, list *corev1.ConfigMapList) {
	t.Helper()
	// A write of its own ends the catching up.
	end, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "end-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s.last == 0 || s.follow(t, t.Context(), maps, version(end)) {
		s.values = map[string]int64{}
		for i := range list.Items {
			s.values[list.Items[i].Name] = version(&list.Items[i])
		}
		s.last, _ = strconv.ParseInt(list.ResourceVersion, 10, 64)
		if s.follow(t, t.Context(), maps, version(end)) {
			t.Error("a watch from the version of a list made a moment ago: expired")
		}
	}
	for i := range list.Items {
		if m := &list.Items[i]; s.values[m.Name] != version(m) {
			t.Errorf("%s is at %d; the watcher saw it at %d", m.Name, version(m), s.values[m.Name])
		}
	}
	if len(s.values) != len(list.Items)+1 {
		t.Errorf("the watcher knows %d objects, %d are there", len(s.values), len(list.Items)+1)
	}
}

// live lets all write until enough has been acknowledged, and kills.
func (l *ledger) live(t *testing.T, p *process, s *seen, name string, enough int64) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l.acknowledged.Store(0)
	var all sync.WaitGroup
	all.Go(func() { s.follow(t, ctx, p.maps, 0) })
	for w := range writers {
		all.Go(func() { l.write(ctx, p.maps, fmt.Sprintf("%s-%d", name, w)) })
	}
	for l.acknowledged.Load() < enough && ctx.Err() == nil {
		time.Sleep(time.Millisecond) // no wait for anything: the moment of the kill is what is tested
	}
	p.kill()
	cancel()
	all.Wait()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Error("the writers did not get on")
	}
}

func number(variable string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil {
		return n
	}
	return otherwise
}
