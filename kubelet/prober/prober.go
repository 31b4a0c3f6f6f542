package prober

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"

	kubecontainer "hyperkube/kubelet/container"
	"hyperkube/kubelet/envvars"
	"hyperkube/kubelet/lifecycle"
)

// maxRespBody of a probe's answer that is read, for the event.
const maxRespBody = 10 << 10

// Target is whom a probe asks.
type Target struct {
	Pod         *v1.Pod
	Container   *v1.Container
	ContainerID kubecontainer.ContainerID
	PodIP       string
	Timeout     time.Duration
}

// Prober performs a probe once. An error is one of the machinery; a container
// that says no, or nothing in time, is a Failure with a message.
type Prober interface {
	Probe(ctx context.Context, probe *v1.Probe, target Target) (Result, string, error)
}

// NewProber makes the real one.
func NewProber(commands lifecycle.CommandRunner) Prober { return &prober{commands: commands} }

type prober struct{ commands lifecycle.CommandRunner }

func (p *prober) Probe(ctx context.Context, probe *v1.Probe, target Target) (Result, string, error) {
	ctx, cancel := context.WithTimeout(ctx, target.Timeout)
	defer cancel()
	switch {
	case probe.Exec != nil:
		return p.exec(ctx, probe.Exec, target)
	case probe.HTTPGet != nil:
		return httpProbe(ctx, probe.HTTPGet, target)
	case probe.TCPSocket != nil:
		return tcpProbe(ctx, probe.TCPSocket, target)
	case probe.GRPC != nil:
		return grpcProbe(ctx, probe.GRPC, target)
	}
	return Failure, "", fmt.Errorf("missing probe handler for %s:%s", target.Pod.Name, target.Container.Name)
}

func (p *prober) exec(ctx context.Context, action *v1.ExecAction, target Target) (Result, string, error) {
	command := envvars.ExpandStatic(action.Command, target.Container.Env)
	output, err := p.commands.RunInContainer(ctx, target.ContainerID, command, target.Timeout)
	var exit *ExitError
	switch {
	case err == nil:
		return Success, string(output), nil
	case errors.As(err, &exit):
		return Failure, string(output), nil
	case status.Code(err) == codes.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded):
		return Failure, fmt.Sprintf("command timed out: %q timed out after %v", strings.Join(command, " "), target.Timeout), nil
	}
	return Failure, "", err
}

// ExitError is a command that ran and ended with a code other than 0.
type ExitError struct{ Code int32 }

func (e *ExitError) Error() string {
	return fmt.Sprintf("command terminated with exit code %d", e.Code)
}

func httpProbe(ctx context.Context, action *v1.HTTPGetAction, target Target) (Result, string, error) {
	host := action.Host
	if host == "" {
		host = target.PodIP
	}
	request, err := lifecycle.NewHTTPRequest(ctx, host, target.Container, action)
	if err != nil {
		return Failure, "", err
	}
	// One connection a probe: a connection kept open would show a server that no longer accepts any.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, DisableCompression: true} //nolint:gosec
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if r.URL.Hostname() != via[0].URL.Hostname() || len(via) >= 10 {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	response, err := client.Do(request)
	if err != nil {
		return Failure, err.Error(), nil
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxRespBody))
	if err != nil {
		return Failure, "", err
	}
	if response.StatusCode >= http.StatusOK && response.StatusCode < http.StatusBadRequest {
		return Success, string(body), nil
	}
	return Failure, fmt.Sprintf("HTTP probe failed with statuscode: %d", response.StatusCode), nil
}

func tcpProbe(ctx context.Context, action *v1.TCPSocketAction, target Target) (Result, string, error) {
	port, err := lifecycle.ResolvePort(action.Port, target.Container)
	if err != nil {
		return Failure, "", err
	}
	host := action.Host
	if host == "" {
		host = target.PodIP
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return Failure, err.Error(), nil
	}
	conn.Close()
	return Success, "", nil
}

func grpcProbe(ctx context.Context, action *v1.GRPCAction, target Target) (Result, string, error) {
	service := ""
	if action.Service != nil {
		service = *action.Service
	}
	address := net.JoinHostPort(target.PodIP, strconv.Itoa(int(action.Port)))
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent("kube-probe/1.37"))
	if err != nil {
		return Failure, "", err
	}
	defer conn.Close()
	response, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service}, grpc.WaitForReady(true))
	switch {
	case status.Code(err) == codes.DeadlineExceeded:
		return Failure, fmt.Sprintf("timeout: failed to connect service %q within %v: %v", address, target.Timeout, context.DeadlineExceeded), nil
	case status.Code(err) == codes.Unimplemented:
		return Failure, fmt.Sprintf("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", err), nil
	case err != nil:
		return Failure, fmt.Sprintf("error: health rpc probe failed: %+v", err), nil
	case response.Status != grpc_health_v1.HealthCheckResponse_SERVING:
		return Failure, fmt.Sprintf("service unhealthy (responded with %q)", response.Status), nil
	}
	return Success, "service healthy", nil
}

// FailProbesAnnotation on a pod lets its network probes fail where containers are only
// simulated.
const FailProbesAnnotation = "simulated.hyperkube.io/fail-probes"

// NewSimulatedProber is for containers that are only bookkeeping: nothing listens at their
// addresses, so network probes are answered from the books. Who is asked runs, for nobody
// else is asked, and answers well unless its pod says otherwise.
func NewSimulatedProber(commands lifecycle.CommandRunner) Prober {
	return simulatedProber{prober{commands: commands}}
}

type simulatedProber struct{ real prober }

func (p simulatedProber) Probe(ctx context.Context, probe *v1.Probe, target Target) (Result, string, error) {
	if probe.Exec != nil {
		return p.real.Probe(ctx, probe, target)
	}
	if _, fails := target.Pod.Annotations[FailProbesAnnotation]; fails {
		return Failure, "simulated: the pod's annotation " + FailProbesAnnotation + " says so", nil
	}
	return Success, "simulated", nil
}
