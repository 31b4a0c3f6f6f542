package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// namespace is where the API part works; its service account needs no controller.
const namespace = "bench"

// server is an API to be measured, in processes of its own.
type server struct {
	dir    string
	names  []string // of commands: "etcd", "apiserver"; or "all"
	cmds   []*exec.Cmd
	config *rest.Config
}

// startServer starts the commands on an empty directory, and waits until the last of them serves.
func startServer(binary string, commands [][]string) (*server, error) {
	dir, err := os.MkdirTemp("", "hk-bench-")
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir}
	for _, command := range commands {
		if err := s.start(binary, command...); err != nil {
			s.stop()
			return nil, err
		}
	}
	if err := s.waitReady(); err != nil {
		text, _ := os.ReadFile(filepath.Join(dir, s.names[len(s.names)-1]+".log"))
		s.stop()
		return nil, fmt.Errorf("%w\n%s", err, text)
	}
	return s, nil
}

// start runs one more command on the server's directory.
func (s *server) start(binary string, command ...string) error {
	log, err := os.Create(filepath.Join(s.dir, command[0]+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(binary, append(slices.Clone(command), "--data-dir="+s.dir)...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	s.names, s.cmds = append(s.names, command[0]), append(s.cmds, cmd)
	return nil
}

// apart are etcd and the apiserver in a process each, so that CPU can be told apart.
func apart(apiserverFlags ...string) [][]string {
	return [][]string{{"etcd"}, append([]string{"apiserver"}, apiserverFlags...)}
}

func (s *server) waitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := s.prepare(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("API ready: %w", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// prepare connects, and makes the namespace.
func (s *server) prepare(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(s.dir, "admin.kubeconfig"))
	if err != nil {
		return err
	}
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	s.config = config
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := set.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error(); err != nil {
		return err
	}
	_, err = set.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	_, err = set.CoreV1().ServiceAccounts(namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// stop ends the processes, the last started first, and removes the directory.
func (s *server) stop() {
	s.end()
	os.RemoveAll(s.dir)
}

// end ends the processes, and keeps the directory.
func (s *server) end() {
	for _, cmd := range slices.Backward(s.cmds) {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	}
	s.cmds = nil
}

// cpu is what each process has used so far, in the order of names.
func (s *server) cpu() []time.Duration {
	used := make([]time.Duration, len(s.cmds))
	for i, cmd := range s.cmds {
		used[i] = cpu([]int{cmd.Process.Pid})
	}
	return used
}

// rss is the memory of each process.
func (s *server) rss() []int64 {
	held := make([]int64, len(s.cmds))
	for i, cmd := range s.cmds {
		held[i] = rss(cmd.Process.Pid)
	}
	return held
}

// client speaks to the server in one media type, over connections of its own.
func (s *server) client(media string, gzip bool) (*kubernetes.Clientset, error) {
	config := rest.CopyConfig(s.config)
	config.Dial = newDial() // or else client-go would share one connection among all clients
	config.ContentType, config.AcceptContentTypes = media, media
	config.DisableCompression = !gzip
	return kubernetes.NewForConfig(config)
}
