package cri

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// loadMethod is the one call on the socket that is not CRI's, which knows how to
// pull images but not how to bring them: the client streams an archive in pieces
// (google.protobuf.BytesValue), and is answered with the list of its images.
const loadMethod = "/hyperkube.cri.v1.ImageLoadService/Load"

// loadChunk is the size of a piece, in bytes.
const loadChunk = 1 << 20

// LoadImages gives the images of an archive (docker save, or an OCI layout) to
// the runtime behind conn, and returns their names, or where they have none
// their ids.
func LoadImages(ctx context.Context, conn grpc.ClientConnInterface, archive io.Reader) ([]string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, loadMethod)
	if err != nil {
		return nil, err
	}
	for buf := make([]byte, loadChunk); err == nil; {
		var n int
		if n, err = io.ReadFull(archive, buf); n > 0 {
			// io.EOF here says that the server has answered already: RecvMsg has why.
			if sendErr := stream.SendMsg(wrapperspb.Bytes(buf[:n])); sendErr != nil {
				break
			}
		}
	}
	if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err // of the archive: the cancelled stream loads nothing
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	var loaded runtimeapi.ListImagesResponse
	if err := stream.RecvMsg(&loaded); err != nil {
		return nil, err
	}
	var names []string
	for _, img := range loaded.Images {
		if len(img.RepoTags) > 0 {
			names = append(names, img.RepoTags...)
		} else {
			names = append(names, img.Id)
		}
	}
	return names, nil
}
