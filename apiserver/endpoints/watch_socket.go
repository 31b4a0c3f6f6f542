package endpoints

import (
	"io"
	"net/http"

	"golang.org/x/net/websocket"
)

// A browser cannot read a response as it comes, but it has WebSockets (RFC 6455): there each event is one message, of text for JSON,
// else binary.

// serveSocket takes over the connection and calls serve, which ends when the client closes: nothing else is expected of it.
func (e *eventStream) serveSocket(r *http.Request, cancel func(), serve func()) {
	server := websocket.Server{Handshake: acceptSocket, Handler: func(socket *websocket.Conn) {
		defer socket.Close()
		go func() {
			defer cancel()
			_, _ = io.Copy(io.Discard, socket)
		}()
		socket.PayloadType = websocket.BinaryFrame
		if e.form.media == mediaJSON {
			socket.PayloadType = websocket.TextFrame
		}
		e.socket = socket
		serve()
	}}
	e.w.Header().Set("Content-Type", e.contentType())
	server.ServeHTTP(hijackable(e.w), r)
}

// acceptSocket agrees to one of the subprotocols that are offered, as the client expects if it offers any. Who may connect, and from
// where, has been decided before: by its credentials.
func acceptSocket(config *websocket.Config, _ *http.Request) error {
	if len(config.Protocol) > 1 {
		config.Protocol = config.Protocol[:1]
	}
	return nil
}

// hijackable finds the writer that can hand over its connection.
func hijackable(w http.ResponseWriter) http.ResponseWriter {
	for inner := w; ; {
		if _, ok := inner.(http.Hijacker); ok {
			return inner
		}
		u, ok := inner.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		inner = u.Unwrap()
	}
}

// lengthPrefix is what stands before each protobuf frame of a stream: a message has its length already.
const lengthPrefix = 4

// sendMessage sends the frame that has been gathered.
func (e *eventStream) sendMessage() error {
	frame := e.frames
	if e.form.media == mediaProtobuf && len(frame) >= lengthPrefix {
		frame = frame[lengthPrefix:]
	}
	_, err := e.socket.Write(frame)
	e.frames = e.frames[:0]
	return err
}
