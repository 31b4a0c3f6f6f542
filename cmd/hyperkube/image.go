package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"hyperkube/cmd/box/tools"
	"hyperkube/component"
	"hyperkube/cri"
	"hyperkube/cri/embedded"
	"hyperkube/cri/images"
	"hyperkube/pki"
)

const imageUsage = "usage: hyperkube image ls | pull REF | rm REF | load FILE.tar | save FILE.tar  [--data-dir DIR]"

// imageOptions is the command line of `hyperkube image VERB`.
type imageOptions struct {
	DataDir  string
	NodeName string
	Username string
	Password string
}

// runImage looks after the embedded runtime's images (R81):
//
//	image ls           what is there
//	image pull REF     from a registry
//	image rm REF       unless a container uses it
//	image load FILE    an archive of `docker save` or in OCI layout
//	image save FILE    hyperkube.local/demo and /pause, for a runtime that is not ours; needs no cluster
//
// Each node has images of its own; without --hostname-override all nodes that run on this host are meant.
func runImage(ctx context.Context, args []string) error {
	verbs := map[string]func(context.Context, *imageClient, []string) error{"ls": imageList, "pull": imagePull, "rm": imageRemove, "load": imageLoad}
	if len(args) == 2 && args[0] == "save" {
		return imageSave(args[1])
	}
	if len(args) == 0 || verbs[args[0]] == nil {
		return &component.UsageError{Err: errors.New(imageUsage)}
	}
	o := &imageOptions{DataDir: defaultDataDir()}
	flags := pflag.NewFlagSet("image "+args[0], pflag.ContinueOnError)
	flags.StringVar(&o.DataDir, "data-dir", o.DataDir, "the cluster's data directory")
	flags.StringVar(&o.NodeName, "hostname-override", o.NodeName, "the node (default: all that run on this host)")
	flags.StringVar(&o.Username, "username", "", "for the registry")
	flags.StringVar(&o.Password, "password", os.Getenv("HYPERKUBE_REGISTRY_PASSWORD"), "for the registry (default: $HYPERKUBE_REGISTRY_PASSWORD)")
	if err := flags.Parse(args[1:]); err != nil {
		return &component.UsageError{Err: fmt.Errorf("%w; %s", err, imageUsage)}
	}
	clients, err := dialImages(o)
	if err != nil {
		return err
	}
	var errs []error
	for _, client := range clients {
		if err := verbs[args[0]](ctx, client, flags.Args()); err != nil && len(clients) > 1 && !errors.As(err, new(*component.UsageError)) {
			errs = append(errs, fmt.Errorf("on %s: %w", client.node, err))
		} else if err != nil {
			return err
		}
		client.conn.Close()
	}
	return errors.Join(errs...)
}

// imageClient talks to the ImageService of a node's runtime on its CRI socket.
type imageClient struct {
	options *imageOptions
	node    string
	// on is what its lines of output end with: " on node-2" where there are several.
	on      string
	conn    *grpc.ClientConn
	service runtimeapi.ImageServiceClient
}

// dialImages connects to the runtime of the node that o names, or to those of all nodes here.
func dialImages(o *imageOptions) ([]*imageClient, error) {
	cluster, err := pki.ReadCluster(o.DataDir)
	if err != nil {
		return nil, fmt.Errorf("no cluster in %s: start `hyperkube all` there first (%w)", o.DataDir, err)
	}
	dir, err := pki.Open(o.DataDir, *cluster)
	if err != nil {
		return nil, err
	}
	nodes := []string{o.NodeName}
	if o.NodeName == "" {
		first, err := nodeName()
		if err != nil {
			return nil, err
		}
		nodes = append([]string{first}, markedNodes(dir)...)
	}
	var clients []*imageClient
	for i, node := range nodes {
		endpoint := criEndpoint(dir, node)
		socket := strings.TrimPrefix(endpoint, "unix://")
		if _, err := os.Stat(socket); err != nil && i > 0 {
			continue // a further node that is stopped
		} else if err != nil {
			return nil, fmt.Errorf("no runtime listens on %s: start `hyperkube all` or `hyperkube cri` with the same --data-dir", socket)
		}
		conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		clients = append(clients, &imageClient{options: o, node: node, conn: conn, service: runtimeapi.NewImageServiceClient(conn)})
	}
	if len(clients) > 1 {
		for _, client := range clients {
			client.on = " on " + client.node
		}
	}
	return clients, nil
}

func imageList(ctx context.Context, c *imageClient, _ []string) error {
	response, err := c.service.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return err
	}
	if c.on != "" {
		fmt.Println(c.node + ":")
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tID\tSIZE")
	for _, image := range response.Images {
		names := image.RepoTags
		if len(names) == 0 {
			names = image.RepoDigests
		}
		id := strings.TrimPrefix(image.Id, "sha256:")
		fmt.Fprintf(w, "%s\t%s\t%.1f MB\n", strings.Join(names, ","), id[:min(len(id), 13)], float64(image.Size)/1e6)
	}
	return w.Flush()
}

func imagePull(ctx context.Context, c *imageClient, refs []string) error {
	if len(refs) != 1 {
		return &component.UsageError{Err: errors.New(imageUsage)}
	}
	request := &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: refs[0]}}
	if c.options.Username != "" {
		request.Auth = &runtimeapi.AuthConfig{Username: c.options.Username, Password: c.options.Password}
	}
	began := time.Now()
	response, err := c.service.PullImage(ctx, request)
	if err != nil {
		return fmt.Errorf("pulling %s: %w", refs[0], err)
	}
	fmt.Printf("%s: %s in %.1fs%s\n", refs[0], response.ImageRef, time.Since(began).Seconds(), c.on)
	return nil
}

func imageRemove(ctx context.Context, c *imageClient, refs []string) error {
	if len(refs) == 0 {
		return &component.UsageError{Err: errors.New(imageUsage)}
	}
	for _, ref := range refs {
		spec := &runtimeapi.ImageSpec{Image: ref}
		status, err := c.service.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: spec})
		if err != nil {
			return err
		}
		if status.Image == nil {
			return fmt.Errorf("no image %s; `hyperkube image ls` lists them", ref)
		}
		if _, err := c.service.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: spec}); err != nil {
			return fmt.Errorf("removing %s: %w", ref, err)
		}
		fmt.Println("removed", ref+c.on)
	}
	return nil
}

// imageLoad streams archives to the runtime, which takes each as a whole or not at all.
func imageLoad(ctx context.Context, c *imageClient, files []string) error {
	if len(files) == 0 {
		return &component.UsageError{Err: errors.New(imageUsage)}
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		loaded, err := cri.LoadImages(ctx, c.conn, f)
		f.Close()
		if err != nil {
			return fmt.Errorf("loading %s: %w", name, err)
		}
		for _, image := range loaded {
			fmt.Println("loaded", image+c.on)
		}
	}
	return nil
}

// imageSave writes the images that our own runtime makes itself. They are made of the
// program that this build carries, or of this program.
func imageSave(path string) (err error) {
	bin, err := os.MkdirTemp("", "hyperkube-bin-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	box, ok, err := embedded.Install("box", bin)
	if err == nil && !ok {
		box, err = os.Executable()
	}
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(images.SaveLocal(f, box, tools.Names()), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", path, err), os.Remove(path))
	}
	fmt.Printf("saved %s and %s\n", images.DemoImage, images.PauseImage)
	return nil
}
