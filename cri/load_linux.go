package cri

import (
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// loadService serves loadMethod.
var loadService = grpc.ServiceDesc{
	ServiceName: "hyperkube.cri.v1.ImageLoadService",
	HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{{StreamName: "Load", ClientStreams: true, Handler: func(server any, stream grpc.ServerStream) error {
		return server.(*CRI).load(stream)
	}}},
}

func (c *CRI) load(stream grpc.ServerStream) error {
	loaded, err := c.images.Load(&messageReader{stream: stream})
	if err != nil {
		return grpcError(err)
	}
	resp := &runtimeapi.ListImagesResponse{}
	for _, img := range loaded {
		resp.Images = append(resp.Images, describeImage(img))
	}
	return stream.SendMsg(resp)
}

// messageReader reads the pieces of a stream as one.
type messageReader struct {
	stream grpc.ServerStream
	rest   []byte
}

func (r *messageReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		var piece wrapperspb.BytesValue
		if err := r.stream.RecvMsg(&piece); err != nil {
			return 0, err // io.EOF at the end
		}
		r.rest = piece.Value
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
