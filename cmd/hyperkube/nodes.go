package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"hyperkube/addons/nodenet"
	"hyperkube/component"
	"hyperkube/cri"
	"hyperkube/pki"
)

// furtherNode is a further node as a part of `all`: a process of its own, in a network namespace of its own. It is
// stopped as a machine is that loses its network: its processes end, its containers stay, nobody reaches them.
type furtherNode struct {
	nodeOptions
	// patience is how long the process may take to end in order.
	patience time.Duration
}

// Complete takes all from the command line that `all` made.
func (f *furtherNode) Complete(ctx context.Context) error { return f.shared.Complete(ctx) }

// Run has the node run until ctx ends:
//
//  1. plug it into the network;
//  2. start its process there, with a pipe whose end tells it that we are gone;
//  3. wait for ctx, or for the process to end;
//  4. end the process: gently if it is to leave the host, with its pods; else it leaves them running;
//  5. take it off the network.
func (f *furtherNode) Run(ctx context.Context, env *component.Env) error {
	network, number := nodeNetwork(f.dir), numberOf(f.NodeName)
	// Step 1: plug it in.
	if err := writeMark(f.dir, f.NodeName, number); err != nil {
		return err
	}
	if err := network.Plug(ctx, f.NodeName, number); err != nil {
		return err
	}
	// Step 2: start its process.
	p, err := f.start(network, env.Args)
	if err != nil {
		return err
	}
	env.Health.Add("started", func(context.Context) error { return nil })
	env.Health.Add("node", func(ctx context.Context) error { return f.health(ctx, p) })
	// Step 3: wait.
	select {
	case <-ctx.Done():
	case <-p.done:
		if !p.killed() {
			return fmt.Errorf("%s", p.lastLine())
		}
		// Whoever killed it wants to see what becomes of a dead node: the cluster goes on.
		component.Logger(f.NodeName).Error(p.err, "The node's process was killed; its containers run on. To have it back: hyperkube stop "+f.NodeName+"; hyperkube start "+f.NodeName)
		<-ctx.Done()
	}
	// Step 4: end the process.
	p.end(component.Leaving(ctx), f.patience)
	// Step 5: off the network.
	if !component.Leaving(ctx) {
		return network.Unplug(number)
	}
	var killed error
	if p.err != nil { // it could not clean up itself
		killed = cleanUpPods(env.Context(context.Background()), f.dir, f.NodeName)
	}
	return errors.Join(killed, network.Remove(f.NodeName, number))
}

// health is nil when all parts of the node answer.
func (f *furtherNode) health(ctx context.Context, p *nodeProcess) error {
	select {
	case <-p.done:
		return errors.New("its process has ended: hyperkube stop " + f.NodeName + "; hyperkube start " + f.NodeName)
	default:
	}
	registrations, err := component.Registrations(f.DataDir)
	if err != nil {
		return err
	}
	parts := 0
	for _, r := range registrations {
		if r.PID != p.cmd.Process.Pid || len(r.Parts) > 0 {
			continue
		}
		if err := r.Probe(ctx); err != nil {
			return fmt.Errorf("%s: %w", r.Component, err)
		}
		parts++
	}
	if wanted := len(f.parts()); parts < wanted {
		return fmt.Errorf("%d of %d parts have started", parts, wanted)
	}
	return nil
}

// nodeProcess is the process of a further node.
type nodeProcess struct {
	cmd *exec.Cmd
	// lifeline is open as long as the node is to run and we live.
	lifeline *os.File
	done     chan struct{}
	err      error // of Wait; valid once done is closed

	mu   sync.Mutex
	last string
}

// start starts the node's process in its namespace. Its output is ours.
func (f *furtherNode) start(network nodenet.Network, args []string) (*nodeProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	p := &nodeProcess{cmd: exec.Command(self, append([]string{"node", "--lifeline"}, args...)...), lifeline: ours, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = os.Stdout, p, []*os.File{theirs}
	// In a group of its own: Ctrl-C in a terminal is for `all`, which then ends the nodes in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := network.Inside(f.NodeName, p.cmd.Start); err != nil {
		ours.Close()
		return nil, fmt.Errorf("starting its process: %w", err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Write passes the node's log on, and keeps the last line: it is the cause if the process fails.
func (p *nodeProcess) Write(b []byte) (int, error) {
	if lines := strings.Split(strings.TrimSpace(string(b)), "\n"); lines[len(lines)-1] != "" {
		p.mu.Lock()
		p.last = strings.TrimPrefix(lines[len(lines)-1], "hyperkube node: ")
		p.mu.Unlock()
	}
	return os.Stderr.Write(b)
}

func (p *nodeProcess) lastLine() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// killed: by a signal, and not by an error of its own.
func (p *nodeProcess) killed() bool {
	var exit *exec.ExitError
	return errors.As(p.err, &exit) && exit.ExitCode() < 0
}

// end ends the process, with its pods or without, by force when patience is over.
func (p *nodeProcess) end(leaving bool, patience time.Duration) {
	if leaving {
		// It may have ended already; then there is nothing to tell.
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	} else {
		p.lifeline.Close()
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	p.lifeline.Close()
}

// numberOf is the number in the name of a further node.
func numberOf(node string) int {
	number := 0
	if _, err := fmt.Sscanf(node, "node-%d", &number); err != nil {
		panic("no name of a further node: " + node)
	}
	return number
}

func writeMark(dir *pki.Dir, node string, number int) error {
	mark := furtherMark(dir, node)
	if err := os.MkdirAll(filepath.Dir(mark), 0o755); err != nil {
		return err
	}
	return os.WriteFile(mark, fmt.Appendln(nil, number), 0o644)
}

// cleanUpPods removes what pods of a node have on the host, when its own processes cannot.
func cleanUpPods(ctx context.Context, dir *pki.Dir, node string) error {
	return errors.Join(cri.CleanUp(ctx, criConfig(dir, node)), unmountBelow(dir.NodeDir(node)))
}

// nodeOptions is the command line of `hyperkube node`.
type nodeOptions struct {
	shared
	NodeName      string
	NodeIP        string
	APIServerHost string
	Disable       []string
	Args          componentArgs
	// Lifeline: descriptor 3 is a pipe; when it ends, so do we, and the containers run on.
	Lifeline bool
}

func newNodeOptions() *nodeOptions { return &nodeOptions{shared: newShared(), Args: componentArgs{}} }

func (o *nodeOptions) AddFlags(flags *pflag.FlagSet) {
	o.shared.AddFlags(flags)
	flags.StringVar(&o.NodeName, "hostname-override", o.NodeName, "the node's name (default: the host's, in small letters)")
	flags.StringVar(&o.NodeIP, "node-ip", o.NodeIP, "the node's address (default: found on the host)")
	flags.StringVar(&o.APIServerHost, "apiserver-host", o.APIServerHost, "host at which this node reaches the apiserver (default: that of the kubeconfig)")
	flags.StringSliceVar(&o.Disable, "disable", o.Disable, "components not to start: proxy")
	flags.BoolVar(&o.Lifeline, "lifeline", o.Lifeline, "end, and leave the containers running, when descriptor 3 does")
	o.Args.addFlags(flags)
}

// Complete finds the node's name.
func (o *nodeOptions) Complete(ctx context.Context) (err error) {
	if o.Logs.Level == "" {
		o.Logs.Level = "warn"
	}
	if err := o.shared.Complete(ctx); err != nil {
		return err
	}
	if o.NodeName == "" {
		o.NodeName, err = nodeName()
	}
	return err
}

func (o *nodeOptions) Validate() error {
	return errors.Join(o.Args.validate(), checkHost(false, !slices.Contains(o.Disable, "proxy")))
}

// parts are the components of a node. Their names end with the node's, so that those of several nodes can be told apart.
func (o *nodeOptions) parts() []*part {
	var parts []*part
	for _, name := range []string{"cri", "kubelet", "proxy"} {
		if slices.Contains(o.Disable, name) {
			continue
		}
		c := find(name)
		args := append([]string{"--data-dir=" + o.DataDir}, o.Args.of(name)...)
		args = append(args, "--hostname-override="+o.NodeName)
		if name != "cri" && o.APIServerHost != "" {
			args = append(args, "--apiserver-host="+o.APIServerHost)
		}
		if name == "kubelet" {
			args = append(args, "--container-runtime-endpoint="+criEndpoint(o.dir, o.NodeName), "--node-ip="+o.NodeIP)
		}
		c.name += "-" + o.NodeName
		parts = append(parts, &part{command: c, args: args})
	}
	return parts
}

// runNode is `hyperkube node`: options → complete → validate → run.
func runNode(ctx context.Context, args []string) error {
	o := newNodeOptions()
	if err := component.Parse("node", o, args, os.Stdout); err != nil {
		return err
	}
	if err := o.Complete(ctx); err != nil {
		return err
	}
	if err := o.Validate(); err != nil {
		return err
	}
	return o.Run(ctx, nil)
}

// Run runs the node's parts until ctx ends, or the lifeline does.
func (o *nodeOptions) Run(ctx context.Context, _ *component.Env) error {
	var release func()
	// The one before us may still be on its way out, if `all` was killed.
	err := component.Wait(ctx, func(cause error) { component.Logger(o.NodeName).Info("Waiting", "cause", cause) }, func(context.Context) (err error) {
		release, err = o.dir.Claim(o.NodeName)
		return err
	})
	if err != nil {
		return nil // stopped while waiting
	}
	defer release()
	s := newSupervisor(o.parts())
	s.suffix = "-" + o.NodeName
	s.startAll()
	stopControl, err := serveControl(o.DataDir, o.NodeName, s)
	if err != nil {
		return errors.Join(err, s.stopAll(nil, func(string, time.Duration) {}))
	}
	defer stopControl()
	alone, cut := context.WithCancel(ctx)
	defer cut()
	if o.Lifeline {
		go func() {
			_, _ = io.Copy(io.Discard, os.NewFile(3, "lifeline"))
			cut()
		}()
	}
	err = s.wait(alone)
	// Pods go only when we are told to leave the host: by a signal to us.
	var cause error
	if ctx.Err() != nil {
		cause = component.ErrLeaving
	}
	return errors.Join(err, s.stopAll(cause, func(string, time.Duration) {}))
}
