package pki

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Dir is an opened data directory. Its methods may be called by several
// processes at once; each takes the directory's lock.
type Dir struct {
	path string
	now  func() time.Time
	// Cluster is cluster.yaml as read by Open or by the last Reload.
	Cluster Cluster

	ca    *x509.Certificate
	caKey *ecdsa.PrivateKey
}

// Open prepares path as the data directory of a cluster. defaults describes the
// cluster to make when there is none yet; where there is one, what it says
// stands and defaults are not looked at.
func Open(path string, defaults Cluster) (*Dir, error) {
	return open(path, defaults, time.Now)
}

func open(path string, defaults Cluster, now func() time.Time) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: path, now: now}
	for _, dir := range []string{path, d.file("pki"), d.file("kubeconfig")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("data directory: %w; choose another with --data-dir", err)
		}
	}
	unlock, err := d.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := d.readOrWriteCluster(defaults); err != nil {
		return nil, err
	}
	if err := d.ensureCA(); err != nil {
		return nil, err
	}
	return d, d.ensureServiceAccountKey()
}

// Path returns the data directory's absolute path.
func (d *Dir) Path() string { return d.path }

// NodesDir is where the nodes' folders are.
func (d *Dir) NodesDir() string { return filepath.Join(d.path, "nodes") }

// NodeDir is where what belongs to one node lives: DIR/nodes/<name>.
func (d *Dir) NodeDir(node string) string { return filepath.Join(d.NodesDir(), node) }

func (d *Dir) file(elements ...string) string {
	return filepath.Join(append([]string{d.path}, elements...)...)
}

// Reload reads cluster.yaml again, for a port that another component has recorded.
func (d *Dir) Reload() error {
	c, err := ReadCluster(d.path)
	if err == nil {
		d.Cluster = *c
	}
	return err
}

// Update changes cluster.yaml under the lock: how a component records the port
// that the kernel gave it.
func (d *Dir) Update(change func(*Cluster)) error {
	unlock, err := d.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := d.Reload(); err != nil {
		return err
	}
	before := d.Cluster
	change(&d.Cluster)
	if d.Cluster == before {
		return nil
	}
	return writeCluster(d.path, &d.Cluster)
}

func (d *Dir) readOrWriteCluster(defaults Cluster) error {
	err := d.Reload()
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := defaults.completeAndValidate(); err != nil {
		return err
	}
	d.Cluster = defaults
	return writeCluster(d.path, &d.Cluster)
}

// lock holds DIR/.lock until the returned function is called. The kernel frees
// it with the process, so a kill -9 leaves nothing to clean up.
func (d *Dir) lock() (unlock func(), err error) {
	f, err := os.OpenFile(d.file(".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// Claim holds the directory for one role ("all", "etcd") until release is called.
// A second instance is told who holds it.
func (d *Dir) Claim(role string) (release func(), err error) {
	name := d.file("." + role + ".lock")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder := make([]byte, 32)
		n, _ := f.Read(holder)
		f.Close()
		return nil, fmt.Errorf("%s is in use by another `hyperkube %s` (pid %s): stop that one, or choose another --data-dir", d.path, role, holder[:n])
	}
	if err := f.Truncate(0); err == nil {
		fmt.Fprint(f, os.Getpid())
	}
	return func() { f.Close() }, nil
}
