package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"hyperkube/client"
	"hyperkube/component"
	"hyperkube/flow"
	"hyperkube/pki"
	"hyperkube/reconcile"
)

// shared is what the command lines of all components have in common.
type shared struct {
	DataDir string
	Logs    component.LogOptions
	// dir is the opened data directory, after Complete.
	dir *pki.Dir
}

func newShared() shared { return shared{DataDir: defaultDataDir()} }

// standardDataDir is where a cluster lives when nobody says otherwise.
const standardDataDir = "/var/lib/hyperkube"

func defaultDataDir() string {
	if dir := os.Getenv("HYPERKUBE_DATA_DIR"); dir != "" {
		return dir
	}
	return standardDataDir
}

func (s *shared) AddFlags(flags *pflag.FlagSet) {
	flags.StringVar(&s.DataDir, "data-dir", s.DataDir, "where certificates, kubeconfig files and state are kept; made when missing")
	flags.StringVar(&s.Logs.Level, "log-level", s.Logs.Level, "error, warn, info, debug or 0-10, for all or by component: 2,scheduler=5,etcd=warn")
	flags.StringVar(&s.Logs.Format, "log-format", s.Logs.Format, "text or json")
	flags.StringVar(&s.Logs.Dir, "logs-dir", s.Logs.Dir, "also write one file a component into this directory")
}

// Complete opens the data directory, making what is missing, and sets up
// logging if that was asked for. Inside `all` a component's command line has no
// log flags, and what `all` has set up stands.
func (s *shared) Complete(context.Context) error {
	if s.Logs != (component.LogOptions{}) {
		if err := component.SetUpLogging(s.Logs); err != nil {
			return err
		}
	}
	return s.open(pki.DefaultCluster())
}

func (s *shared) open(defaults pki.Cluster) (err error) {
	if s.dir == nil {
		s.dir, err = pki.Open(s.DataDir, defaults)
	}
	return err
}

func (s *shared) Validate() error { return nil }

// apiClient is the part of a command line by which a component finds the apiserver.
type apiClient struct {
	shared
	Kubeconfig  string
	Master      string
	ContentType string
	// Host replaces the apiserver's host of the data directory's kubeconfig, where that one means another machine: loopback.
	Host string
	// name, user and groups are the identity whose kubeconfig is made when none is given.
	name, user string
	groups     []string
	// set is what connect returned.
	set kubernetes.Interface
	// turnstile holds the keys of the component's loops; nil: it has none that can be held.
	turnstile *reconcile.Turnstile
}

func newAPIClient(name, user string, groups ...string) apiClient {
	return apiClient{shared: newShared(), ContentType: client.ContentTypeJSON, name: name, user: user, groups: groups}
}

func (a *apiClient) AddFlags(flags *pflag.FlagSet) {
	a.shared.AddFlags(flags)
	flags.StringVar(&a.Kubeconfig, "kubeconfig", a.Kubeconfig, "how to reach the apiserver (default: one made in --data-dir)")
	flags.StringVar(&a.Master, "master", a.Master, "URL of the apiserver, instead of the kubeconfig's")
	flags.StringVar(&a.Host, "apiserver-host", a.Host, "host at which this node reaches the apiserver (default: that of the kubeconfig)")
	flags.StringVar(&a.ContentType, "kube-api-content-type", a.ContentType, "content type spoken with the apiserver; application/vnd.kubernetes.protobuf costs less CPU")
}

// Validate reads a kubeconfig that was given by hand, so that a broken one is said at once.
func (a *apiClient) Validate() error {
	if a.Kubeconfig == "" {
		return nil
	}
	_, err := client.Load(a.Kubeconfig, a.name, a.ContentType)
	return err
}

// config loads the kubeconfig anew. Without --kubeconfig it is made from what
// cluster.yaml says at this moment, since the apiserver may record its port only later.
func (a *apiClient) config() (*rest.Config, error) {
	file := a.Kubeconfig
	if file == "" {
		if err := a.dir.Reload(); err != nil {
			return nil, err
		}
		if a.dir.Cluster.APIServerPort == 0 {
			return nil, errors.New("the apiserver has not recorded its port yet")
		}
		var err error
		if file, err = a.dir.Kubeconfig(a.name, a.user, a.groups...); err != nil {
			return nil, err
		}
	}
	config, err := client.Load(file, a.name, a.ContentType)
	switch {
	case err != nil:
		return nil, err
	case a.Master != "":
		config.Host = a.Master
	case a.Host != "":
		config.Host = "https://" + net.JoinHostPort(a.Host, strconv.Itoa(a.dir.Cluster.APIServerPort))
	}
	return config, nil
}

// connect waits for the apiserver and returns a client of it.
func (a *apiClient) connect(ctx context.Context) (*rest.Config, kubernetes.Interface, error) {
	config, err := client.WaitForAPI(ctx, a.config)
	if err != nil {
		return nil, nil, err
	}
	a.set, err = kubernetes.NewForConfig(config)
	return config, a.set, err
}

// gate is what a component gives to its loops, so that `hyperkube step` can hold them.
func (a *apiClient) gate() reconcile.Gate {
	a.turnstile = reconcile.NewTurnstile()
	return a.turnstile
}

// serveAndRun is that of shared, in a context in which the component's effects reach
// the apiserver, and while its loops are held as the apiserver wishes.
func (a *apiClient) serveAndRun(ctx context.Context, env *component.Env, address string, run func(context.Context) error) error {
	if a.set == nil {
		return a.shared.serveAndRun(ctx, env, address, run)
	}
	effects := client.NewEffects(env.Name, a.set.Discovery().RESTClient())
	var beside sync.WaitGroup
	posting, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		stop()
		beside.Wait()
	}()
	beside.Go(func() { effects.Run(posting) })
	if a.turnstile != nil {
		beside.Go(func() { client.FollowGates(posting, a.turnstile, a.set.Discovery().RESTClient()) })
	}
	return a.shared.serveAndRun(flow.WithSink(ctx, effects), env, address, run)
}

// dataDirFlag takes --data-dir out of the arguments of a command that has few
// flags or passes the rest on.
func dataDirFlag(args []string) (dataDir string, rest []string, err error) {
	dataDir = defaultDataDir()
	for i := 0; i < len(args); i++ {
		value, found := strings.CutPrefix(args[i], "--data-dir=")
		switch {
		case found:
			dataDir = value
		case args[i] == "--data-dir" && i+1 < len(args):
			i++
			dataDir = args[i]
		case args[i] == "--data-dir":
			return "", nil, &component.UsageError{Err: fmt.Errorf("--data-dir needs a directory")}
		case args[i] == "--":
			return dataDir, append(rest, args[i:]...), nil
		default:
			rest = append(rest, args[i])
		}
	}
	return dataDir, rest, nil
}

// serveAndRun makes the component visible under the data directory, then runs it.
func (s *shared) serveAndRun(ctx context.Context, env *component.Env, address string, run func(context.Context) error) error {
	stop, err := env.Serve(s.dir.Path(), address)
	if err != nil {
		return err
	}
	defer stop()
	return run(ctx)
}

// leaderElection is the part of a command line of components of which only one may act.
type leaderElection struct {
	LeaderElect         bool
	LeaderElectIdentity string
	LeaseDuration       time.Duration
	RenewDeadline       time.Duration
	RetryPeriod         time.Duration
}

func newLeaderElection() leaderElection {
	return leaderElection{LeaderElect: true, LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second}
}

func (l *leaderElection) AddFlags(flags *pflag.FlagSet) {
	flags.BoolVar(&l.LeaderElect, "leader-elect", l.LeaderElect, "act only while holding the component's Lease in kube-system")
	flags.StringVar(&l.LeaderElectIdentity, "leader-elect-identity", l.LeaderElectIdentity,
		"name in the Lease (default: the host's name and the process's number); one that comes back under its old name goes on at once")
	flags.DurationVar(&l.LeaseDuration, "leader-elect-lease-duration", l.LeaseDuration, "how long the Lease holds after its renewal")
	flags.DurationVar(&l.RenewDeadline, "leader-elect-renew-deadline", l.RenewDeadline, "how long renewing is tried before the work stops")
	flags.DurationVar(&l.RetryPeriod, "leader-elect-retry-period", l.RetryPeriod, "how often the Lease is renewed, or asked for")
}

func (l *leaderElection) identity() string {
	if l.LeaderElectIdentity != "" {
		return l.LeaderElectIdentity
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return fmt.Sprintf("%s_%d", host, os.Getpid())
}
