package cri

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	constants "k8s.io/apimachinery/pkg/util/remotecommand"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	utilexec "k8s.io/utils/exec"
)

// webSockets serves exec and attach over the newest WebSocket protocol,
// v5.channel.k8s.io, in which a client can end its input alone (crictl
// --transport=websocket). The library behind CRI.streams knows v4 at most, and
// SPDY; everything else is left to it.
type webSockets struct {
	runtime *streamRuntime
	next    http.Handler

	mu    sync.Mutex
	asked map[string]session // by the path that the client was given
}

// session is what was asked for over CRI, before the client connects.
type session struct {
	id                      string
	cmd                     []string // empty: attach
	stdin, stdout, err, tty bool
	at                      time.Time
}

// sessionLife is how long an address is good for, as the library has it.
const sessionLife = time.Minute

// remember keeps a session for the client that was given this address.
func (s *webSockets) remember(address string, asked session) {
	at, err := url.Parse(address)
	if err != nil {
		return
	}
	asked.at = time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked == nil {
		s.asked = map[string]session{}
	}
	for path, old := range s.asked {
		if time.Since(old.at) > sessionLife {
			delete(s.asked, path)
		}
	}
	s.asked[at.Path] = asked
}

// take gives a session out once.
func (s *webSockets) take(path string) (session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked, ok := s.asked[path]
	delete(s.asked, path)
	return asked, ok && time.Since(asked.at) <= sessionLife
}

func (s *webSockets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	asked, ok := s.take(r.URL.Path)
	if !ok || !wsstream.IsWebSocketRequestWithStreamCloseProtocol(r) {
		s.next.ServeHTTP(w, r)
		return
	}
	use := func(wanted bool, kind wsstream.ChannelType) wsstream.ChannelType {
		if !wanted {
			return wsstream.IgnoreChannel
		}
		return kind
	}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{constants.StreamProtocolV5Name: {Binary: true, Channels: []wsstream.ChannelType{
		use(asked.stdin, wsstream.ReadChannel), use(asked.stdout, wsstream.WriteChannel), use(asked.err, wsstream.WriteChannel),
		wsstream.WriteChannel, wsstream.ReadChannel}}})
	_, streams, err := conn.Open(w, r)
	if err != nil {
		klog.FromContext(s.runtime.c.life).Info("A WebSocket could not be opened", "err", err)
		return
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	data, err := json.Marshal(outcome(s.serve(ctx, asked, streams, cancel)))
	if err == nil {
		streams[3].Write(data)
	}
}

// serve runs the session on its channels: input, output, errors, outcome, sizes.
func (s *webSockets) serve(ctx context.Context, asked session, streams []io.ReadWriteCloser, gone func()) error {
	sizes := make(chan remotecommand.TerminalSize)
	go func() {
		defer close(sizes)
		defer gone() // this channel ends with the connection only
		for decoder := json.NewDecoder(streams[4]); ; {
			var size remotecommand.TerminalSize
			if decoder.Decode(&size) != nil {
				return
			}
			select {
			case sizes <- size:
			case <-ctx.Done():
				return
			}
		}
	}()
	var in io.Reader
	var out, errs io.WriteCloser
	if asked.stdin {
		in = streams[0]
	}
	if asked.stdout {
		out = streams[1]
	}
	if asked.err {
		errs = streams[2]
	}
	if len(asked.cmd) == 0 {
		return s.runtime.Attach(ctx, asked.id, in, out, errs, asked.tty, sizes)
	}
	return s.runtime.Exec(ctx, asked.id, asked.cmd, in, out, errs, asked.tty, sizes)
}

// outcome is how a session went, in the words that clients read.
func outcome(err error) metav1.Status {
	var exit utilexec.ExitError
	switch {
	case err == nil:
		return metav1.Status{Status: metav1.StatusSuccess}
	case errors.As(err, &exit) && exit.Exited():
		return metav1.Status{Status: metav1.StatusFailure, Reason: constants.NonZeroExitCodeReason, Message: err.Error(),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: constants.ExitCodeCauseType, Message: strconv.Itoa(exit.ExitStatus())}}}}
	}
	return apierrors.NewInternalError(err).Status()
}

// rememberExec and rememberAttach tell webSockets what an address is for.
func (c *CRI) rememberExec(req *runtimeapi.ExecRequest, resp *runtimeapi.ExecResponse, err error) (*runtimeapi.ExecResponse, error) {
	if err == nil {
		c.webSockets.remember(resp.Url, session{id: req.ContainerId, cmd: req.Cmd, stdin: req.Stdin, stdout: req.Stdout, err: req.Stderr, tty: req.Tty})
	}
	return resp, err
}

func (c *CRI) rememberAttach(req *runtimeapi.AttachRequest, resp *runtimeapi.AttachResponse, err error) (*runtimeapi.AttachResponse, error) {
	if err == nil {
		c.webSockets.remember(resp.Url, session{id: req.ContainerId, stdin: req.Stdin, stdout: req.Stdout, err: req.Stderr, tty: req.Tty})
	}
	return resp, err
}
