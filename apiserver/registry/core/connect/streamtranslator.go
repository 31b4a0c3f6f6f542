package connect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	remotecommandconsts "k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/client-go/tools/remotecommand"
	clientspdy "k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"hyperkube/component"
)

// Channels of a WebSocket of exec and attach, by their numbers in each frame.
const (
	stdinChannel = iota
	stdoutChannel
	stderrChannel
	errorChannel
	resizeChannel
)

// pingPeriod keeps the connection to the kubelet known to whatever stands between.
const pingPeriod = 5 * time.Second

// translateStreams answers WebSocket "v5.channel.k8s.io" and is itself a SPDY client of the kubelet. v5 differs from
// what kubelets know in that the client can close stdin alone (frame 255), which `cat | kubectl exec`
// needs.
func (c *connector) translateStreams(location *url.URL, opts streamOptions, w http.ResponseWriter, r *http.Request) error {
	config, err := c.kubelet.tlsConfig(false)
	if err != nil {
		return err
	}
	roundTripper, err := spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{TLS: config, PingPeriod: pingPeriod})
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	executor, err := remotecommand.NewSPDYExecutorRejectRedirects(roundTripper, clientspdy.NewUpgraderForStreaming(roundTripper), http.MethodPost, location)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		remotecommandconsts.StreamProtocolV5Name: {Binary: true, Channels: channels(opts)},
	})
	_, streams, err := conn.Open(unwrap(w), r.WithContext(component.Demoted(r.Context())))
	if err != nil {
		// The WebSocket handshake has answered already.
		klog.FromContext(r.Context()).Info("WebSocket could not be opened", "path", r.URL.Path, "err", err)
		return nil
	}
	defer conn.Close()
	err = executor.StreamWithContext(translate(r.Context(), streams, opts))
	writeStatus(streams[errorChannel], err)
	return nil
}

func channels(opts streamOptions) []wsstream.ChannelType {
	choose := func(on bool, kind wsstream.ChannelType) wsstream.ChannelType {
		if on {
			return kind
		}
		return wsstream.IgnoreChannel
	}
	all := make([]wsstream.ChannelType, resizeChannel+1)
	all[stdinChannel] = choose(opts.stdin, wsstream.ReadChannel)
	all[stdoutChannel] = choose(opts.stdout, wsstream.WriteChannel)
	all[stderrChannel] = choose(opts.stderr && !opts.tty, wsstream.WriteChannel)
	all[errorChannel] = wsstream.WriteChannel
	all[resizeChannel] = wsstream.ReadChannel
	return all
}

// translate turns the channels into the executor's options. The resize channel is read even without a terminal: its end
// is how we learn that the client has gone, and then the command's connection must go too.
func translate(ctx context.Context, streams []io.ReadWriteCloser, opts streamOptions) (context.Context, remotecommand.StreamOptions) {
	ctx, cancel := context.WithCancel(ctx)
	sizes := &sizeQueue{sizes: make(chan remotecommand.TerminalSize), done: ctx.Done()}
	go func() {
		defer cancel()
		sizes.read(streams[resizeChannel])
	}()
	out := remotecommand.StreamOptions{Tty: opts.tty}
	if opts.stdin {
		out.Stdin = streams[stdinChannel]
	}
	if opts.stdout {
		out.Stdout = streams[stdoutChannel]
	}
	if opts.stderr && !opts.tty {
		out.Stderr = streams[stderrChannel]
	}
	if opts.tty {
		out.TerminalSizeQueue = sizes
	}
	return ctx, out
}

// sizeQueue hands the sizes of the client's terminal on.
type sizeQueue struct {
	sizes chan remotecommand.TerminalSize
	done  <-chan struct{}
}

// read decodes sizes until the stream ends.
func (q *sizeQueue) read(stream io.Reader) {
	decoder := json.NewDecoder(stream)
	for {
		var size remotecommand.TerminalSize
		if err := decoder.Decode(&size); err != nil {
			// What is no size ends the sizes, not the session.
			_, _ = io.Copy(io.Discard, stream)
			return
		}
		select {
		case q.sizes <- size:
		case <-q.done:
			return
		}
	}
}

// Next implements remotecommand.TerminalSizeQueue.
func (q *sizeQueue) Next() *remotecommand.TerminalSize {
	select {
	case size := <-q.sizes:
		return &size
	case <-q.done:
		return nil
	}
}

// writeStatus tells the client how the command ended, exit code included.
func writeStatus(w io.Writer, err error) {
	status := metav1.Status{Status: metav1.StatusSuccess}
	var exit utilexec.ExitError
	var api apierrors.APIStatus
	switch {
	case err == nil:
	case errors.As(err, &exit) && exit.Exited():
		status = metav1.Status{
			Status:  metav1.StatusFailure,
			Reason:  remotecommandconsts.NonZeroExitCodeReason,
			Message: fmt.Sprintf("command terminated with non-zero exit code: %v", exit),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{
				Type: remotecommandconsts.ExitCodeCauseType, Message: fmt.Sprint(exit.ExitStatus()),
			}}},
		}
	case errors.As(err, &api):
		status = api.Status()
	default:
		status = apierrors.NewInternalError(err).Status()
	}
	data, err := json.Marshal(status)
	if err == nil {
		_, _ = w.Write(data)
	}
}
