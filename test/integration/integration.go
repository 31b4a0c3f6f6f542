// Package integration gives a test an apiserver of its own, with its etcd, in the
// test's process: as real as any (TLS, RBAC, admission, watch cache, fsync), and there
// in less than 200 ms.
//
//	cluster := integration.Start(t)
//	pods, err := cluster.Client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
//
// Nothing else runs: no controller fills in ReplicaSets, no kubelet reports pods. Tests
// start the component they are about against cluster.Config.
//
// In Kubernetes: test/integration/framework and cmd/kube-apiserver/app/testing, which need
// an etcd binary beside them and some five seconds.
package integration

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"

	"hyperkube/apiserver"
	"hyperkube/etcd"
	"hyperkube/etcd/etcdtest"
	"hyperkube/pki"
)

// Cluster is a running apiserver.
type Cluster struct {
	// Config is the administrator's; without client-side rate limits.
	Config *rest.Config
	Client kubernetes.Interface
	Server *apiserver.Server
	Etcd   *etcdtest.Server
	// Dir holds certificates and keys.
	Dir *pki.Dir

	t       testing.TB
	options []Option
	stop    func()
}

// Option changes the apiserver's configuration before it is made.
type Option func(*apiserver.Config)

// Start runs an apiserver until the test ends.
func Start(t testing.TB, options ...Option) *Cluster {
	t.Helper()
	dir, err := pki.Open(t.TempDir(), pki.DefaultCluster())
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{t: t, Dir: dir, Etcd: etcdtest.Start(t), options: options}
	c.Run("127.0.0.1:0")
	t.Cleanup(c.Stop)
	return c
}

// Run starts the apiserver at address: Start does so, and a test may again after Stop.
func (c *Cluster) Run(address string) {
	c.t.Helper()
	config, err := c.serverConfig(address)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, option := range c.options {
		option(&config)
	}
	if c.Server, err = apiserver.New(config); err != nil {
		c.t.Fatal(err)
	}
	logger := ktesting.NewLogger(c.t, ktesting.NewConfig(ktesting.Verbosity(1)))
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), logger))
	done := make(chan error, 1)
	go func() { done <- c.Server.Run(ctx) }()
	stopped := false
	c.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			c.t.Errorf("apiserver: %v", err)
		}
	}
	wait, cancelWait := context.WithTimeout(ctx, 30*time.Second)
	defer cancelWait()
	go func() {
		select {
		case err := <-done:
			done <- err
			cancelWait()
		case <-wait.Done():
		}
	}()
	if err := c.Server.Ready(wait); err != nil {
		cancel()
		c.t.Fatalf("apiserver is not ready: %v", errors.Join(err, <-done))
	}
	if err := c.connect(); err != nil {
		c.t.Fatal(err)
	}
}

// Stop stops the apiserver before the test ends; etcd stays.
func (c *Cluster) Stop() { c.stop() }

func (c *Cluster) serverConfig(address string) (apiserver.Config, error) {
	serving, err := c.Dir.ServingCert("apiserver", "127.0.0.1", "localhost")
	if err != nil {
		return apiserver.Config{}, err
	}
	return apiserver.Config{
		BindAddress: address, AdvertiseAddress: "192.0.2.1",
		CertFile: serving.CertFile, KeyFile: serving.KeyFile, ClientCAFile: c.Dir.CAFile(),
		ServiceAccountKeyFile: c.Dir.ServiceAccountKeyFile(), EtcdServers: []string{c.Etcd.Endpoint}, LocalEtcd: etcd.Local,
	}, nil
}

func (c *Cluster) connect() error {
	admin, err := c.Dir.ClientCert("admin", "kubernetes-admin", "system:masters")
	if err != nil {
		return err
	}
	c.Config = &rest.Config{
		Host: "https://" + c.Server.Address(), QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAFile: c.Dir.CAFile(), CertFile: admin.CertFile, KeyFile: admin.KeyFile},
	}
	c.Client, err = kubernetes.NewForConfig(c.Config)
	return err
}

// ConfigAs is a client configuration of another user.
func (c *Cluster) ConfigAs(user string, groups ...string) *rest.Config {
	config := rest.CopyConfig(c.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: groups}
	return config
}

// Protobuf is Config speaking protobuf, as components do.
func (c *Cluster) Protobuf() *rest.Config {
	config := rest.CopyConfig(c.Config)
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	return config
}

// Kubeconfig writes the administrator's kubeconfig for programs such as kubectl, and returns its path.
func (c *Cluster) Kubeconfig() string {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "kubeconfig")
	tls := c.Config.TLSClientConfig
	config := clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: c.Config.Host, CertificateAuthority: tls.CAFile}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"u": {ClientCertificate: tls.CertFile, ClientKey: tls.KeyFile}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "x",
	}
	if err := clientcmd.WriteToFile(config, file); err != nil {
		c.t.Fatal(err)
	}
	return file
}

// FreePort is a TCP port of loopback that was free a moment ago.
func FreePort(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
