package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"hyperkube/client"
)

// checkHost refuses at once what could only fail later: not Linux, not root, no iptables.
func checkHost(simulated, proxy bool) error {
	switch {
	case simulated:
		return nil
	case runtime.GOOS != "linux":
		return fmt.Errorf("real containers need Linux, this is %s: use --container-runtime=simulated", runtime.GOOS)
	case os.Geteuid() != 0:
		return errors.New("real containers need root: run it with sudo, or use --container-runtime=simulated")
	}
	if _, err := exec.LookPath("iptables"); err != nil && proxy {
		return errors.New("iptables is not installed: install it (apt-get install iptables), or use --disable=proxy")
	}
	return nil
}

var notInNames = regexp.MustCompile(`[^a-z0-9.-]+`)

// nodeName turns the host's name into one that an object may have: capitals and
// underscores are common in host names and not allowed here (R68).
func nodeName() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("the host's name: %w; set one with --hostname-override", err)
	}
	name := nameOfHost(host)
	if name == "" {
		return "", fmt.Errorf("the host's name %q has no letter or digit: set one with --hostname-override", host)
	}
	return name, nil
}

func nameOfHost(host string) string {
	return strings.Trim(notInNames.ReplaceAllString(strings.ToLower(host), "-"), "-.")
}

// nodeWatch asks whether the nodes of a cluster are Ready, with one client for all its questions.
type nodeWatch struct {
	options *allOptions
	set     kubernetes.Interface
}

// ready is nil when the API shows a node, and each is Ready.
func (n *nodeWatch) ready(ctx context.Context) error {
	if n.set == nil {
		file, err := n.options.dir.WriteAdminKubeconfig()
		if err != nil {
			return err
		}
		config, err := client.Load(file, "all", "")
		if err != nil {
			return err
		}
		if n.set, err = kubernetes.NewForConfig(config); err != nil {
			return err
		}
	}
	for len(n.options.dropped) > 0 {
		err := n.set.CoreV1().Nodes().Delete(ctx, n.options.dropped[0], metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("node %s, which is no more: %w", n.options.dropped[0], err)
		}
		n.options.dropped = n.options.dropped[1:]
	}
	nodes, err := n.set.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if len(nodes.Items) == 0 {
		return errors.New("node: none has registered")
	}
	for i := range nodes.Items {
		if row := nodeRow(&nodes.Items[i]); !row.Healthy {
			return fmt.Errorf("%s: %s", row.Component, row.Message)
		}
	}
	return nil
}
