// Package remote connects the kubelet to a container runtime: the CRI v1 gRPC
// socket of the embedded runtime, containerd or CRI-O, or a server inside this
// process (`--container-runtime=simulated`). All speak the same protocol, so
// that nothing above knows which it is.
//
// Every call is logged with its arguments (S4-07, R24): what changes something
// at level 2, questions at level 6. Values of environment variables and
// credentials never reach the log.
//
// In Kubernetes: k8s.io/cri-client. Its hand-written wrapper of each method is
// left out; the interceptor does for all methods what it repeats for each.
package remote

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"hyperkube/flow"
	"hyperkube/reconcile"
)

// maxMessageSize of one CRI answer: 16 MiB hold the lists of a full node.
const maxMessageSize = 16 << 20

// requestTimeout bounds calls that only ask or that end soon by their nature.
// Pulling, stopping and exec run as long as their caller allows.
const requestTimeout = 2 * time.Minute

// Runtime is a connected container runtime.
type Runtime struct {
	runtimeapi.RuntimeServiceClient
	Images runtimeapi.ImageServiceClient
	conn   *grpc.ClientConn
}

// Connect dials endpoint ("unix:///run/cri.sock"). It does not wait: the first
// call does, and a runtime that comes later, or comes back, is found.
func Connect(endpoint string, logger klog.Logger) (*Runtime, error) {
	if !strings.HasPrefix(endpoint, "unix://") {
		return nil, fmt.Errorf("container runtime endpoint %q: must begin with unix://", endpoint)
	}
	return dial(endpoint, nil, logger)
}

// ConnectDialer is Connect for a server within the process.
func ConnectDialer(dialer func(context.Context, string) (net.Conn, error), logger klog.Logger) (*Runtime, error) {
	return dial("passthrough:///simulated", dialer, logger)
}

func dial(target string, dialer func(context.Context, string) (net.Conn, error), logger klog.Logger) (*Runtime, error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageSize)),
		grpc.WithUnaryInterceptor(logCalls(logger)),
		// A runtime that restarts should be found within a second, not after gRPC's two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
	}
	if dialer != nil {
		options = append(options, grpc.WithContextDialer(dialer))
	}
	conn, err := grpc.NewClient(target, options...)
	if err != nil {
		return nil, fmt.Errorf("container runtime endpoint %q: %w", target, err)
	}
	return &Runtime{
		RuntimeServiceClient: runtimeapi.NewRuntimeServiceClient(conn),
		Images:               runtimeapi.NewImageServiceClient(conn),
		conn:                 conn,
	}, nil
}

// Close ends the connection.
func (r *Runtime) Close() error { return r.conn.Close() }

// logCalls gives each call a deadline where its kind has one, and a log line.
func logCalls(logger klog.Logger) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		name := method[strings.LastIndexByte(method, '/')+1:]
		switch name {
		case "PullImage", "StopContainer", "StopPodSandbox", "RunPodSandbox", "ExecSync":
		default:
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, requestTimeout)
			defer cancel()
		}
		start := time.Now()
		err := hideSecrets(ctx, invoke(ctx, method, request, reply, conn, options...))
		if callLevel(name) <= 2 {
			report(ctx, name, request, time.Since(start), err)
		}
		if log := logger.V(callLevel(name)); log.Enabled() {
			if trace := reconcile.TraceFrom(ctx); trace != "" {
				log = log.WithValues("traceID", trace.ID())
			}
			log.Info("CRI "+name, "request", Redact(request), "took", time.Since(start).Round(time.Microsecond), "err", err)
		}
		return err
	}
}

type secretsKey struct{}

// WithSecrets returns a context whose failed calls do not quote these values: a runtime's error may name
// the command, into which $(NAME) has brought them, and it goes into Events, statuses, logs and the record.
func WithSecrets(ctx context.Context, values []string) context.Context {
	return context.WithValue(ctx, secretsKey{}, values)
}

// Message is what the runtime said, without gRPC's word for it.
func Message(err error) string { return status.Convert(err).Message() }

// Quotes says whether a command has one of the values in it.
func Quotes(command, values []string) bool {
	text := strings.Join(command, "\n")
	return slices.ContainsFunc(values, func(v string) bool { return len(v) >= minSecret && strings.Contains(text, v) })
}

func hideSecrets(ctx context.Context, err error) error {
	values, _ := ctx.Value(secretsKey{}).([]string)
	if err == nil || len(values) == 0 {
		return err
	}
	text := status.Convert(err).Message()
	for _, value := range values {
		if len(value) >= minSecret {
			text = strings.ReplaceAll(text, value, "<redacted>")
		}
	}
	return status.Error(status.Code(err), text)
}

// report tells the record of the cluster about a call that changes the node: its name
// and what it is about, never its environment, command or credentials.
func report(ctx context.Context, name string, request any, took time.Duration, err error) {
	if flow.SinkFrom(ctx) == nil {
		return
	}
	effect := flow.Effect{What: "CRI " + name, Took: took, Depth: 2} // the interceptor and this
	switch r := request.(type) {
	case *runtimeapi.CreateContainerRequest:
		effect.Detail = fmt.Sprintf("%s, image %.19s", r.Config.GetMetadata().GetName(), r.Config.GetImage().GetImage()) // sha256: and twelve digits
	case *runtimeapi.PullImageRequest:
		effect.Detail = r.Image.GetImage()
	case *runtimeapi.StopContainerRequest:
		effect.Detail = fmt.Sprintf("%.12s, within %d s", r.ContainerId, r.Timeout)
	case interface{ GetContainerId() string }:
		effect.Detail = fmt.Sprintf("%.12s", r.GetContainerId())
	case interface{ GetPodSandboxId() string }:
		effect.Detail = fmt.Sprintf("%.12s", r.GetPodSandboxId())
	}
	switch {
	case err != nil && (name == "ExecSync" || name == "PullImage"):
		effect.Error = status.Code(err).String() // the text may quote a command, or a registry's challenge
	case err != nil:
		effect.Error = err.Error()
	}
	flow.Report(ctx, effect)
}

// callLevel is the log level of a call: what changes the node is of interest
// to a reader, what merely asks happens every second.
func callLevel(method string) int {
	for _, prefix := range []string{"List", "Status", "Version", "ContainerStatus", "PodSandboxStatus", "ImageStatus", "ImageFsInfo", "ContainerStats", "PodSandboxStats", "RuntimeConfig"} {
		if strings.HasPrefix(method, prefix) {
			return 6
		}
	}
	return 2
}

// Redact renders a request without its secrets.
func Redact(request any) string {
	message, ok := request.(proto.Message)
	if !ok {
		return fmt.Sprintf("%v", request)
	}
	switch r := message.(type) {
	case *runtimeapi.CreateContainerRequest:
		c := proto.Clone(r).(*runtimeapi.CreateContainerRequest)
		redactContainer(c.GetConfig())
		c.SandboxConfig = nil // the RunPodSandbox line has it
		return c.String()
	case *runtimeapi.RunPodSandboxRequest:
		c := proto.Clone(r).(*runtimeapi.RunPodSandboxRequest)
		delete(c.GetConfig().GetAnnotations(), v1.LastAppliedConfigAnnotation) // the whole pod, its environment too
		return c.String()
	case *runtimeapi.PullImageRequest:
		c := proto.Clone(r).(*runtimeapi.PullImageRequest)
		c.Auth, c.SandboxConfig = nil, nil
		return c.String()
	case *runtimeapi.ExecSyncRequest:
		return fmt.Sprintf("container_id:%q cmd:<%d words>", r.ContainerId, len(r.Cmd))
	case *runtimeapi.ExecRequest:
		return fmt.Sprintf("container_id:%q cmd:<%d words> tty:%v", r.ContainerId, len(r.Cmd), r.Tty)
	}
	return fmt.Sprint(message)
}

// minSecret is the length from which on a value is looked for in a command: shorter ones are in every word.
const minSecret = 4

// redactContainer takes the values of the environment out, also from where $(NAME) has brought
// them into the command.
func redactContainer(config *runtimeapi.ContainerConfig) {
	for _, env := range config.GetEnvs() {
		if value := string(env.Value); len(value) >= minSecret {
			for _, words := range [][]string{config.Command, config.Args} {
				for i := range words {
					words[i] = strings.ReplaceAll(words[i], value, "<redacted>")
				}
			}
		}
		env.Value = []byte("<redacted>")
	}
}
