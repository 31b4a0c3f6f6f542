// Package containerd runs a containerd of its own beside others, for tests and
// benchmarks: set up as docs/containerd.md says, whose files it takes from there
// with other directories. The caller is in network and mount namespaces of its
// own, with private mounts.
package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Config says where. All fields are needed.
type Config struct {
	Dir       string // for everything of the daemon's; not too long, for there are sockets in it
	Hyperkube string // the program, which is the CNI plugins too
	Document  string // docs/containerd.md
}

// Daemon is a containerd that runs.
type Daemon struct {
	Config
	Socket string
	cmd    *exec.Cmd
	undo   []func() error
}

// Missing says what has to be installed, or nothing.
func Missing() string {
	for _, program := range []string{"containerd", "runc", "ctr"} {
		if _, err := exec.LookPath(program); err != nil {
			return "no " + program + ": apt-get install --no-install-recommends containerd runc"
		}
	}
	return ""
}

// Start sets a daemon up, runs it, and gives it the images that come with hyperkube.
func Start(ctx context.Context, cfg Config) (*Daemon, error) {
	d := &Daemon{Config: cfg, Socket: filepath.Join(cfg.Dir, "containerd.sock")}
	for _, step := range []func(context.Context) error{d.writeFiles, d.linkPlugins, d.hideFixedPlaces, d.run, d.importImages} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("containerd: %w", err), d.Stop())
		}
	}
	return d, nil
}

// PID is the daemon's process.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Ctr runs containerd's own client.
func (d *Daemon) Ctr(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "ctr", append([]string{"--address=" + d.Socket, "--namespace=k8s.io"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// Stop ends the daemon, not its containers, and removes what its network has made.
// It may be repeated.
func (d *Daemon) Stop() error {
	var errs []error
	for i := len(d.undo) - 1; i >= 0; i-- {
		errs = append(errs, d.undo[i]())
	}
	d.undo = nil
	return errors.Join(errs...)
}

func (d *Daemon) writeFiles(context.Context) error {
	document, err := os.ReadFile(d.Document)
	if err != nil {
		return err
	}
	own := fmt.Sprintf("root = %q\nstate = %q\n[grpc]\n  address = %q\n[plugins.\"io.containerd.internal.v1.opt\"]\n  path = %q\n",
		d.Dir+"/root", d.Dir+"/state", d.Socket, d.Dir+"/opt")
	place := strings.NewReplacer("/usr/lib/cni", d.Dir+"/cni", "/etc/cni/net.d", d.Dir+"/net.d", "/etc/containerd", d.Dir,
		"/var/lib/cni", d.Dir, "version = 2\n", "version = 2\n"+own)
	for file, language := range map[string]string{"config.toml": "toml", "hyperkube-network.template": "json"} {
		_, rest, _ := strings.Cut(string(document), "```"+language+"\n")
		block, _, found := strings.Cut(rest, "```")
		if !found {
			return fmt.Errorf("%s has no block of %s", d.Document, language)
		}
		if err := os.WriteFile(filepath.Join(d.Dir, file), []byte(place.Replace(block)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (d *Daemon) linkPlugins(context.Context) error {
	program, err := filepath.Abs(d.Hyperkube)
	dir := filepath.Join(d.Dir, "cni")
	errs := []error{err, os.Mkdir(dir, 0o755)}
	for _, plugin := range []string{"hyperkube-bridge", "hyperkube-portmap", "hyperkube-bandwidth", "loopback"} {
		errs = append(errs, os.Symlink(program, filepath.Join(dir, plugin)))
	}
	return errors.Join(errs...)
}

// hideFixedPlaces mounts over where the shims' sockets, runc's state and the pods'
// network namespaces are, whatever the configuration says.
func (d *Daemon) hideFixedPlaces(context.Context) error {
	for _, dir := range []string{"/run/containerd", "/run/netns"} {
		err := os.Mkdir(dir, 0o755)
		switch {
		case err == nil:
			d.undo = append(d.undo, func() error {
				os.Remove(dir) // others, in other namespaces, may have come to use it meanwhile
				return nil
			})
		case !errors.Is(err, os.ErrExist):
			return err
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mounting over %s: %w", dir, err)
		}
		d.undo = append(d.undo, func() error { return syscall.Unmount(dir, syscall.MNT_DETACH) })
	}
	return nil
}

func (d *Daemon) run(ctx context.Context) error {
	log, err := os.Create(filepath.Join(d.Dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	d.cmd = exec.Command("containerd", "--config="+filepath.Join(d.Dir, "config.toml"))
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- d.cmd.Wait() }()
	d.undo = append(d.undo, removeNetwork, func() error {
		d.cmd.Process.Signal(syscall.SIGTERM)
		return <-ended
	})
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		_, err := d.Ctr(ctx, "version")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-ticker.C:
		}
	}
}

// removeNetwork does what docs/containerd.md says about the end.
func removeNetwork() error {
	if out, err := exec.Command("sh", "-c", "iptables-save | grep -v -e -ctrd | iptables-restore").CombinedOutput(); err != nil {
		return fmt.Errorf("removing the rules of the pods' network: %w: %s", err, out)
	}
	if exec.Command("ip", "link", "show", "hk-containerd").Run() != nil {
		return nil // no pod has been there
	}
	if out, err := exec.Command("ip", "link", "delete", "hk-containerd").CombinedOutput(); err != nil {
		return fmt.Errorf("removing the bridge: %w: %s", err, out)
	}
	return nil
}

func (d *Daemon) importImages(ctx context.Context) error {
	archive := filepath.Join(d.Dir, "images.tar")
	if out, err := exec.CommandContext(ctx, d.Hyperkube, "image", "save", archive).CombinedOutput(); err != nil {
		return fmt.Errorf("image save: %w: %s", err, out)
	}
	_, err := d.Ctr(ctx, "images", "import", archive)
	return err
}
