package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// confName is the file of our own network. "99-": any other configuration sorts
// before it, and is used instead.
const confName = "99-hyperkube.conflist"

// interfaceName is what a pod's interface is called, in every pod.
const interfaceName = "eth0"

// Config says where the node's network is described and kept.
type Config struct {
	ConfDir string // CNI configurations; the first by name counts
	BinDir  string // CNI plugins; ours are links to SelfExe there
	DataDir string // given addresses, and libcni's memory of what it did
	SelfExe string // the program that acts as a CNI plugin by argv[0]
	Bridge  string // name of the bridge of our own network; default: derived from DataDir
	// ClusterCIDR is all pods' addresses, or two such ranges with a comma between, of IPv4 and of IPv6; traffic to it
	// keeps the pod's address. Default: the node's pod CIDR.
	ClusterCIDR string
}

// Network gives pods their interface and addresses, through CNI.
type Network struct {
	cfg Config
	cni *libcni.CNIConfig
	mu  sync.Mutex // for writing our configuration
}

// Pod is what a plugin is told about a sandbox.
type Pod struct {
	ID, Namespace, Name, UID string
	NetNS                    string // path of the network namespace
	Ports                    []PortMapping
	Bandwidth                *Bandwidth // nil: no limit
}

// PortMapping makes a port of the pod reachable at a port of the node.
type PortMapping struct {
	HostPort      int32  `json:"hostPort"`
	ContainerPort int32  `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

// New prepares the directories. It changes nothing in the node's network.
func New(cfg Config) (*Network, error) {
	for _, dir := range []string{cfg.ConfDir, cfg.BinDir, cfg.DataDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if cfg.Bridge == "" {
		cfg.Bridge = BridgeName(cfg.DataDir)
	}
	for name := range plugins {
		link := filepath.Join(cfg.BinDir, name)
		if have, err := os.Readlink(link); err == nil && have == cfg.SelfExe {
			continue
		}
		os.Remove(link)
		if err := os.Symlink(cfg.SelfExe, link); err != nil {
			return nil, err
		}
	}
	n := &Network{cfg: cfg}
	n.cni = libcni.NewCNIConfigWithCacheDir([]string{cfg.BinDir}, filepath.Join(cfg.DataDir, "results"), &inProcess{plugins: plugins})
	return n, nil
}

// SetPodCIDR describes our own network, with the node's share of the pods'
// addresses: one range, or two of different families with a comma between. Where
// another configuration is in the directory, that one counts.
func (n *Network) SetPodCIDR(cidrs string) error {
	if cidrs == "" {
		return nil
	}
	subnets, err := parseSubnets(cidrs, n.cfg.ClusterCIDR)
	if err != nil {
		return err
	}
	list := map[string]any{"cniVersion": "1.0.0", "name": "hyperkube", "plugins": []any{
		bridgeConf{Type: bridgePlugin, Bridge: n.cfg.Bridge, Subnets: subnets, DataDir: filepath.Join(n.cfg.DataDir, "addresses"), ID: short(n.cfg.DataDir)},
		map[string]any{"type": portmapPlugin, "id": short(n.cfg.DataDir), "capabilities": map[string]bool{"portMappings": true}},
		map[string]any{"type": bandwidthPlugin, "capabilities": map[string]bool{"bandwidth": true}},
	}}
	data, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	path := filepath.Join(n.cfg.ConfDir, confName)
	if have, err := os.ReadFile(path); err == nil && string(have) == string(data) {
		return nil
	}
	if err := os.WriteFile(path+".tmp", data, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// parseSubnets reads the node's ranges, and finds for each the cluster's of the same family.
func parseSubnets(cidrs, clusters string) ([]subnet, error) {
	var subnets []subnet
	for _, text := range strings.Split(cidrs, ",") {
		cidr, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("pod CIDR %q: a network is needed, such as 10.244.0.0/24", text)
		}
		one := subnet{CIDR: cidr.Masked(), Cluster: cidr.Masked()}
		if slices.ContainsFunc(subnets, func(s subnet) bool { return s.six() == one.six() }) || len(subnets) == 2 {
			return nil, fmt.Errorf("pod CIDRs %q: two must be of IPv4 and of IPv6", cidrs)
		}
		for _, cluster := range strings.Split(clusters, ",") {
			if all, err := netip.ParsePrefix(cluster); err == nil && all.Addr().Is6() == one.six() {
				one.Cluster = all.Masked()
			}
		}
		subnets = append(subnets, one)
	}
	return subnets, nil
}

// conf reads the network configuration in force.
func (n *Network) conf() (*libcni.NetworkConfigList, error) {
	files, err := libcni.ConfFiles(n.cfg.ConfDir, []string{".conf", ".conflist", ".json"})
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no CNI configuration in %s yet: the node waits for its pod CIDR, or for a network add-on", n.cfg.ConfDir)
	}
	slices.Sort(files)
	conf, err := readConf(files[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", files[0], err)
	}
	return conf, nil
}

func readConf(file string) (*libcni.NetworkConfigList, error) {
	if strings.HasSuffix(file, ".conflist") {
		return libcni.ConfListFromFile(file)
	}
	single, err := libcni.ConfFromFile(file)
	if err != nil {
		return nil, err
	}
	return libcni.ConfListFromConf(single)
}

// Ready says why pods cannot be given a network, or nil. Plugins are asked too, from
// version 1.1.0 of the specification on.
func (n *Network) Ready(ctx context.Context) error {
	conf, err := n.conf()
	if err != nil {
		return err
	}
	if err := n.cni.GetStatusNetworkList(ctx, conf); err != nil {
		return fmt.Errorf("network %s: %w", conf.Name, err)
	}
	return nil
}

// Name is the name of the network in force, for those who look.
func (n *Network) Name() string {
	if conf, err := n.conf(); err == nil {
		return conf.Name
	}
	return ""
}

func runtimeConf(pod *Pod) *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{ContainerID: pod.ID, NetNS: pod.NetNS, IfName: interfaceName, Args: [][2]string{
		{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", pod.Namespace}, {"K8S_POD_NAME", pod.Name},
		{"K8S_POD_INFRA_CONTAINER_ID", pod.ID}, {"K8S_POD_UID", pod.UID}}}
	rt.CapabilityArgs = map[string]any{}
	if len(pod.Ports) > 0 {
		rt.CapabilityArgs["portMappings"] = pod.Ports
	}
	if pod.Bandwidth != nil {
		rt.CapabilityArgs["bandwidth"] = pod.Bandwidth
	}
	return rt
}

// Add connects a pod, and returns its addresses.
func (n *Network) Add(ctx context.Context, pod *Pod) ([]string, error) {
	conf, err := n.conf()
	if err != nil {
		return nil, err
	}
	result, err := n.cni.AddNetworkList(ctx, conf, runtimeConf(pod))
	if err != nil {
		// What was done before the failure is undone by DEL (CNI specification, section 3).
		return nil, errors.Join(err, n.Del(context.WithoutCancel(ctx), pod))
	}
	converted, err := current.NewResultFromResult(result)
	if err != nil {
		return nil, err
	}
	var ips []string
	for _, ip := range converted.IPs {
		ips = append(ips, ip.Address.IP.String())
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("the network %s gave the pod no address", conf.Name)
	}
	return ips, nil
}

// Del disconnects a pod. It may be repeated, and the namespace may be gone.
func (n *Network) Del(ctx context.Context, pod *Pod) error {
	rt := runtimeConf(pod)
	// The configuration with which the pod was connected, not the one in force now, says how.
	attachments, err := n.cni.GetCachedAttachments(pod.ID)
	if err != nil || len(attachments) == 0 {
		conf, err := n.conf()
		if err != nil {
			return nil // never connected
		}
		return n.cni.DelNetworkList(ctx, conf, rt)
	}
	var errs []error
	for _, a := range attachments {
		conf, err := libcni.ConfListFromBytes(a.Config)
		if err == nil {
			// So with what it was told: of a pod that is only remembered by its id, nobody else knows which ports lead to it.
			rt.IfName, rt.CapabilityArgs = a.IfName, a.CapabilityArgs
			err = n.cni.DelNetworkList(ctx, conf, rt)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Check asks the plugins whether a pod is still connected.
func (n *Network) Check(ctx context.Context, pod *Pod) error {
	conf, err := n.conf()
	if err != nil {
		return err
	}
	return n.cni.CheckNetworkList(ctx, conf, runtimeConf(pod))
}

// Attached lists the pods that are, or may be, connected: for the scan after a
// crash, which disconnects those that are not known any more.
func (n *Network) Attached() []string {
	attachments, _ := n.cni.GetCachedAttachments("")
	var ids []string
	for _, a := range attachments {
		ids = append(ids, a.ContainerID)
	}
	for _, id := range (&addresses{dir: filepath.Join(n.cfg.DataDir, "addresses")}).owners() {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// CleanUp removes what our own network has on the node: bridge, chains, links.
// It is no error if there is nothing.
func (n *Network) CleanUp(ctx context.Context) error {
	var errs []error
	for _, pod := range n.Attached() { // the rest of what it has goes with its namespace
		errs = append(errs, deleteLink(ifbName(pod)))
	}
	id := short(n.cfg.DataDir)
	err := errors.Join(append(errs, deleteLink(n.cfg.Bridge), removeMasquerade(ctx, id), removePortmap(ctx, id))...)
	for name := range plugins {
		os.Remove(filepath.Join(n.cfg.BinDir, name))
	}
	os.Remove(filepath.Join(n.cfg.ConfDir, confName))
	return errors.Join(err, os.RemoveAll(n.cfg.DataDir))
}

// Our own plugins, by the type that a configuration names.
const (
	bridgePlugin    = "hyperkube-bridge"
	portmapPlugin   = "hyperkube-portmap"
	bandwidthPlugin = "hyperkube-bandwidth"
)

var plugins = map[string]plugin{bridgePlugin: bridge{}, portmapPlugin: portmap{}, bandwidthPlugin: bandwidth{}}

// PluginMain runs this program as a CNI plugin: name is argv[0]'s last element,
// the rest of the call is in the environment and on standard input (CNI
// specification, section 2). handled is false if name is none of ours.
func PluginMain(name string, in io.Reader, out io.Writer) (code int, handled bool) {
	p, ok := plugins[filepath.Base(name)]
	switch {
	case filepath.Base(name) == loopbackPlugin:
		p = loopback{}
	case !ok:
		return 0, false
	}
	conf, err := io.ReadAll(in)
	var result []byte
	if err == nil {
		result, err = call(context.Background(), p, conf, os.Environ())
	}
	if err != nil {
		json.NewEncoder(out).Encode(cniError(err))
		return 1, true
	}
	out.Write(result)
	return 0, true
}

// inProcess runs our own plugins by a function call: starting a large program
// for each pod would cost more than what it does. Other plugins are executed.
type inProcess struct {
	invoke.DefaultExec
	version.PluginDecoder
	plugins map[string]plugin
}

func (e *inProcess) ExecPlugin(ctx context.Context, path string, conf []byte, environ []string) ([]byte, error) {
	if p, ok := e.plugins[filepath.Base(path)]; ok {
		return call(ctx, p, conf, environ)
	}
	raw := &invoke.RawExec{Stderr: os.Stderr}
	return raw.ExecPlugin(ctx, path, conf, environ)
}

func (e *inProcess) FindInPath(name string, paths []string) (string, error) {
	if _, ok := e.plugins[name]; ok {
		return filepath.Join(paths[0], name), nil
	}
	return invoke.FindInPath(name, paths)
}

func (e *inProcess) Decode(data []byte) (version.PluginInfo, error) {
	return e.PluginDecoder.Decode(data)
}
