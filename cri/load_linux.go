package cri

import (
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// registerLoader serves what LoadImages calls.
func registerLoader(server *grpc.Server, c *CRI) {
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: loaderService,
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName: loaderMethod, ClientStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error { return c.load(stream) },
		}},
	}, c)
}

func (c *CRI) load(stream grpc.ServerStream) error {
	loaded, err := c.images.Load(&pieces{stream: stream})
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	var names []string
	for _, image := range loaded {
		names = append(names, append(image.Tags, image.Digests...)...)
	}
	return stream.SendMsg(wrapperspb.String(strings.Join(names, "\n")))
}

// pieces reads a stream of messages as one stream of bytes.
type pieces struct {
	stream grpc.ServerStream
	rest   []byte
}

func (p *pieces) Read(to []byte) (int, error) {
	for len(p.rest) == 0 {
		var piece wrapperspb.BytesValue
		if err := p.stream.RecvMsg(&piece); err != nil {
			if errors.Is(err, io.EOF) {
				return 0, io.EOF
			}
			return 0, err
		}
		p.rest = piece.Value
	}
	n := copy(to, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}
