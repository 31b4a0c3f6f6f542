package main

import (
	"context"
	"path/filepath"

	"hyperkube/addons/storage"
	"hyperkube/component"
)

// storageOptions is the command line of `hyperkube storage`.
type storageOptions struct {
	apiClient
}

func newStorageOptions() component.Options {
	return &storageOptions{apiClient: newAPIClient("storage", "system:hyperkube-storage")}
}

// Run waits for the apiserver, then makes volumes for the nodes of this data directory.
func (o *storageOptions) Run(ctx context.Context, env *component.Env) error {
	_, set, err := o.connect(ctx)
	if err != nil {
		return nil // stopped while waiting
	}
	nodes, err := filepath.Abs(filepath.Dir(o.dir.NodeDir("any")))
	if err != nil {
		return err
	}
	provisioner, err := storage.New(storage.Config{Client: set, NodesDir: nodes, Gate: o.gate(), Metrics: env.Metrics, Health: env.Health})
	if err != nil {
		return err
	}
	return o.serveAndRun(ctx, env, "", provisioner.Run)
}
