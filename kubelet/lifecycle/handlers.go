// Package lifecycle runs the hooks of containers (postStart, preStop) and
// decides whether a pod that was sent here may run here at all.
//
// In Kubernetes: pkg/kubelet/lifecycle.
package lifecycle

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/clock"

	kubecontainer "hyperkube/kubelet/container"
)

// CommandRunner runs a command in a container and returns its output.
type CommandRunner interface {
	RunInContainer(ctx context.Context, id kubecontainer.ContainerID, command []string, timeout time.Duration) ([]byte, error)
}

// HandlerRunner runs hooks.
type HandlerRunner struct {
	commands CommandRunner
	podIPs   func(ctx context.Context, pod *v1.Pod) []string
	clock    clock.Clock
	client   *http.Client
}

// NewHandlerRunner makes a runner; podIPs finds the address of a running pod.
func NewHandlerRunner(commands CommandRunner, podIPs func(context.Context, *v1.Pod) []string, c clock.Clock) *HandlerRunner {
	transport := &http.Transport{TLSClientConfig: insecureTLS(), DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: 30 * time.Second}).DialContext}
	return &HandlerRunner{commands: commands, podIPs: podIPs, clock: c, client: &http.Client{Transport: transport, CheckRedirect: noForeignRedirect}}
}

// Target is the container whose hook runs.
type Target struct {
	ID        kubecontainer.ContainerID
	Pod       *v1.Pod
	Container *v1.Container
	// PodIPs, if known; otherwise they are asked for when a hook needs them.
	PodIPs []string
}

// Run performs one hook and waits for its end, or for that of ctx.
func (r *HandlerRunner) Run(ctx context.Context, target Target, handler *v1.LifecycleHandler) error {
	pod, container, podIPs := target.Pod, target.Container, target.PodIPs
	switch {
	case handler.Exec != nil:
		output, err := r.commands.RunInContainer(ctx, target.ID, handler.Exec.Command, 0)
		if err != nil {
			return fmt.Errorf("Exec lifecycle hook (%v) for Container %q in Pod %q failed - error: %v, message: %q", handler.Exec.Command, container.Name, podOf(pod), err, output)
		}
		return nil
	case handler.HTTPGet != nil:
		if len(podIPs) == 0 {
			podIPs = r.podIPs(ctx, pod)
		}
		if err := r.get(ctx, container, handler.HTTPGet, podIPs); err != nil {
			return fmt.Errorf("HTTP lifecycle hook (%s) for Container %q in Pod %q failed - error: %v", handler.HTTPGet.Path, container.Name, podOf(pod), err)
		}
		return nil
	case handler.Sleep != nil:
		select {
		case <-ctx.Done(): // the grace period is over: that is an end, not a failure
		case <-r.clock.After(time.Duration(handler.Sleep.Seconds) * time.Second):
		}
		return nil
	}
	return fmt.Errorf("invalid handler: %v", handler)
}

// podOf is a pod as messages name it.
func podOf(pod *v1.Pod) string { return fmt.Sprintf("%s_%s(%s)", pod.Name, pod.Namespace, pod.UID) }

func (r *HandlerRunner) get(ctx context.Context, container *v1.Container, action *v1.HTTPGetAction, podIPs []string) error {
	host := action.Host
	if host == "" {
		if len(podIPs) == 0 {
			return fmt.Errorf("failed to find networking container")
		}
		host = podIPs[0]
	}
	request, err := NewHTTPRequest(ctx, host, container, action)
	if err != nil {
		return err
	}
	response, err := r.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 10<<10))
	return nil
}

// NewHTTPRequest makes the request of a hook or a probe.
func NewHTTPRequest(ctx context.Context, host string, container *v1.Container, action *v1.HTTPGetAction) (*http.Request, error) {
	port, err := ResolvePort(action.Port, container)
	if err != nil {
		return nil, err
	}
	target, err := url.Parse(action.Path)
	if err != nil { // a path that is no URL is taken as it is
		target = &url.URL{Path: action.Path}
	}
	target.Scheme, target.Host = strings.ToLower(string(action.Scheme)), net.JoinHostPort(host, strconv.Itoa(port))
	if target.Scheme == "" {
		target.Scheme = "http"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, header := range action.HTTPHeaders {
		request.Header.Add(header.Name, header.Value)
	}
	if request.Header.Get("Accept") == "" {
		request.Header.Set("Accept", "*/*")
	}
	if userAgent, given := request.Header["User-Agent"]; !given || len(userAgent) == 0 {
		request.Header.Set("User-Agent", "kube-probe/1.37")
	}
	if host := request.Header.Get("Host"); host != "" {
		request.Host = host
	}
	return request, nil
}

// ResolvePort finds a port by number or by the name the container gives it.
func ResolvePort(port intstr.IntOrString, container *v1.Container) (int, error) {
	number := port.IntValue()
	if port.Type == intstr.String {
		for _, p := range container.Ports {
			if p.Name == port.StrVal {
				return int(p.ContainerPort), nil
			}
		}
		var err error
		if number, err = strconv.Atoi(port.StrVal); err != nil {
			return 0, fmt.Errorf("port %q not found", port.StrVal)
		}
	}
	if number <= 0 || number > 65535 {
		return 0, fmt.Errorf("invalid port number: %v", number)
	}
	return number, nil
}
