package main

import (
	"context"
	"fmt"
	"os"

	"hyperkube/pki"
)

// runCerts makes the certificates and kubeconfig files that a component would make
// at its start, for those who want to look at them first.
func runCerts(ctx context.Context, args []string) error {
	dataDir, rest, err := dataDirFlag(args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("unexpected argument %q; usage: hyperkube certs [--data-dir DIR]", rest[0])
	}
	dir, err := pki.Open(dataDir, pki.DefaultCluster())
	if err != nil {
		return err
	}
	os.Setenv("HYPERKUBE_DATA_DIR", dir.Path()) // where the options look by default
	for _, c := range commands() {
		if c.options == nil {
			continue
		}
		if err := c.options().Complete(ctx); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	file, err := dir.WriteAdminKubeconfig()
	if err == nil {
		fmt.Printf("certificates in %s/pki, kubeconfig for people: %s\n", dir.Path(), file)
	}
	return err
}
