package main

import (
	"os"
	"path/filepath"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"hyperkube/kubelet"
	"hyperkube/kubelet/certificate"
)

// rotations gives the kubelet what renews its certificates: the one that connects it
// to the apiserver by config, and the one that pki has signed for its server.
func (o *kubeletOptions) rotations(node *kubelet.Config, config *rest.Config) (err error) {
	directory := filepath.Join(node.RootDir, "pki")
	if o.RotateServer && o.Tuning.tlsCert == "" { // a certificate that was given is the giver's to renew
		seedCert, certErr := os.ReadFile(o.cert.CertFile)
		seedKey, keyErr := os.ReadFile(o.cert.KeyFile)
		if certErr != nil {
			return certErr
		}
		if keyErr != nil {
			return keyErr
		}
		node.ServingCertificate, err = certificate.New(certificate.Config{
			Directory: directory, NodeName: o.NodeName, Hosts: append(o.nodeIPs(), o.NodeName), SeedCert: seedCert, SeedKey: seedKey, CAFile: o.dir.CAFile(),
		})
		if err != nil {
			return err
		}
	}
	if err := rest.LoadTLSFiles(config); err != nil {
		return err
	}
	if !o.RotateClient || len(config.CertData) == 0 {
		return o.Tuning.limitEvents(node, config) // by a token, say: there is nothing to renew
	}
	seed := certificate.Config{Directory: directory, NodeName: o.NodeName, SeedCert: config.CertData, SeedKey: config.KeyData}
	if o.Kubeconfig == "" {
		seed.CAFile = o.dir.CAFile()
	}
	if node.ClientCertificate, err = certificate.New(seed); err != nil {
		return err
	}
	if config, err = node.ClientCertificate.Transport(config); err != nil {
		return err
	}
	if o.set, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	node.Client = o.set
	return o.Tuning.limitEvents(node, config)
}
