package cri

import (
	"context"
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// CRI has no call to load an archive: images come from registries there. Ours is
// one more service on the same socket, of one method that takes the archive as a
// stream of pieces and answers with the names of what it loaded.
const (
	loaderService = "hyperkube.v1.ImageLoader"
	loaderMethod  = "Load"
	loadPiece     = 1 << 20 // bytes
)

// LoadImages sends an archive (`docker save`, or OCI layout in a tar) to the
// runtime behind conn, and returns the names of the images in it. The archive is
// taken as a whole or not at all (R81).
func LoadImages(ctx context.Context, conn *grpc.ClientConn, archive io.Reader) ([]string, error) {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, "/"+loaderService+"/"+loaderMethod)
	if err != nil {
		return nil, err
	}
	piece := make([]byte, loadPiece)
	for {
		n, err := io.ReadFull(archive, piece)
		if n > 0 {
			// io.EOF from a send says that the server has ended the call: its answer says why.
			if sendErr := stream.SendMsg(wrapperspb.Bytes(piece[:n])); sendErr != nil && !errors.Is(sendErr, io.EOF) {
				return nil, sendErr
			} else if sendErr != nil {
				break
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	var names wrapperspb.StringValue
	if err := stream.RecvMsg(&names); err != nil {
		return nil, err
	}
	return strings.Fields(names.Value), nil
}
