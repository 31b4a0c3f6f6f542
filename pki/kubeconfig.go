package pki

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"hyperkube/component/durable"
)

// AdminKubeconfig is the file for people: DIR/admin.kubeconfig.
func (d *Dir) AdminKubeconfig() string { return d.file("admin.kubeconfig") }

// WriteAdminKubeconfig writes the cluster-admin's kubeconfig, owned by whoever
// called sudo, readable by nobody else. ~/.kube/config is never touched (R78).
func (d *Dir) WriteAdminKubeconfig() (string, error) {
	return d.AdminKubeconfig(), d.writeKubeconfig(d.AdminKubeconfig(), "admin", "kubernetes-admin", "system:masters")
}

// Kubeconfig writes the kubeconfig of a component and returns its file. It holds
// the address that cluster.yaml gives at this moment.
func (d *Dir) Kubeconfig(name, user string, groups ...string) (string, error) {
	file := d.file("kubeconfig", name+".kubeconfig")
	return file, d.writeKubeconfig(file, name, user, groups...)
}

func (d *Dir) writeKubeconfig(file, name, user string, groups ...string) error {
	pair, err := d.ClientCert(name, user, groups...)
	if err != nil {
		return err
	}
	ca, err1 := os.ReadFile(d.CAFile())
	cert, err2 := os.ReadFile(pair.CertFile)
	key, err3 := os.ReadFile(pair.KeyFile)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	cluster := d.Cluster.Name
	config := clientcmdapi.NewConfig()
	config.Clusters[cluster] = &clientcmdapi.Cluster{Server: d.Cluster.APIServerURL(), CertificateAuthorityData: ca}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	config.Contexts[cluster] = &clientcmdapi.Context{Cluster: cluster, AuthInfo: user}
	config.CurrentContext = cluster
	data, err := clientcmd.Write(*config)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := durable.WriteFile(file, data, 0o600); err != nil {
		return err
	}
	return giveToSudoUser(file)
}

// giveToSudoUser makes the user who called sudo the owner of what it came for.
func giveToSudoUser(file string) error {
	uid, err1 := strconv.Atoi(os.Getenv("SUDO_UID"))
	gid, err2 := strconv.Atoi(os.Getenv("SUDO_GID"))
	if err1 != nil || err2 != nil || os.Geteuid() != 0 || filepath.Base(file) != "admin.kubeconfig" {
		return nil
	}
	return os.Chown(file, uid, gid)
}
