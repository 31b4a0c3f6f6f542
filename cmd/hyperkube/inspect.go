package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"hyperkube/component"
)

const inspectUsage = "usage: hyperkube inspect container ID|NAME [-o json] [--data-dir DIR]"

// hiddenCommandLabel is the kubelet's mark on a container whose command quotes a Secret.
const hiddenCommandLabel = "io.kubernetes.container.hiddenMessage"

// inspection is a container as the runtime describes it and as the kernel has it
// (R29). It holds no environment: values of Secrets live there.
type inspection struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Attempt uint32 `json:"attempt"`
	State   string `json:"state"`
	Reason  string `json:"reason,omitempty"`
	Since   string `json:"since,omitempty"`
	Image   string `json:"image"`
	LogPath string `json:"logPath"`
	Pod     podRef `json:"pod"`

	// From /proc; absent when no process runs.
	Process    *processView    `json:"process,omitempty"`
	Namespaces []namespaceView `json:"namespaces,omitempty"`
	Cgroups    []cgroupView    `json:"cgroups,omitempty"`
	Network    []linkView      `json:"network,omitempty"`
	Mounts     []mountView     `json:"mounts,omitempty"`
}

type podRef struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	Sandbox   string `json:"sandbox"`
	Pid       int    `json:"parentPid"` // of the process that holds the pod together
}

type processView struct {
	Pid     int      `json:"pid"`
	Parent  int      `json:"parentPid"`
	Program string   `json:"parentProgram"`
	Argv    []string `json:"argv"`
	UIDMap  string   `json:"uidMap"` // "0 0 4294967295": the node's own users
}

type namespaceView struct {
	Kind   string `json:"kind"`
	Inode  uint64 `json:"inode"`
	Shared string `json:"shared"` // "node", "pod" or "" for the container's own
}

type cgroupView struct {
	Controllers string            `json:"controllers"` // of cgroup v1; "unified" for v2
	Path        string            `json:"path"`
	Limits      map[string]string `json:"limits,omitempty"` // the kernel's files and what they say
}

type linkView struct {
	Name      string   `json:"name"` // inside the pod
	Addresses []string `json:"addresses"`
	HostName  string   `json:"hostName,omitempty"` // the other end of the pair, on the node
	HostIndex int      `json:"hostIndex,omitempty"`
	Bridge    string   `json:"bridge,omitempty"`
}

type mountView struct {
	Target  string `json:"target"`
	Type    string `json:"type"`
	Source  string `json:"source"`
	Options string `json:"options"`
}

// runInspect shows one container: `hyperkube inspect container ID`.
func runInspect(ctx context.Context, args []string) error {
	o, output := &imageOptions{DataDir: defaultDataDir()}, ""
	flags := pflag.NewFlagSet("inspect", pflag.ContinueOnError)
	flags.StringVar(&o.DataDir, "data-dir", o.DataDir, "the cluster's data directory")
	flags.StringVar(&o.NodeName, "hostname-override", o.NodeName, "the node (default: all that run on this host)")
	flags.StringVarP(&output, "output", "o", "", "json: for programs")
	if err := flags.Parse(args); err != nil {
		return &component.UsageError{Err: fmt.Errorf("%w; %s", err, inspectUsage)}
	}
	if flags.NArg() != 2 || flags.Arg(0) != "container" || output != "" && output != "json" {
		return &component.UsageError{Err: errors.New(inspectUsage)}
	}
	found, err := findContainer(ctx, o, flags.Arg(1))
	if err != nil {
		return err
	}
	if output == "json" {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(found)
	}
	return found.print(os.Stdout)
}

// findContainer looks on each node for the container. The kernel shows it from here, on a further node too: its processes
// are this machine's.
func findContainer(ctx context.Context, o *imageOptions, name string) (*inspection, error) {
	clients, err := dialImages(o)
	if err != nil {
		return nil, err
	}
	var found *inspection
	var errs []error
	for _, client := range clients {
		if found == nil {
			var err error
			if found, err = inspectContainer(ctx, runtimeapi.NewRuntimeServiceClient(client.conn), name); err != nil {
				errs = append(errs, err)
			}
		}
		client.conn.Close()
	}
	if found == nil {
		return nil, errs[0]
	}
	return found, nil
}

// inspectContainer asks the runtime, and then the kernel.
func inspectContainer(ctx context.Context, runtime runtimeapi.RuntimeServiceClient, name string) (*inspection, error) {
	id, err := containerNamed(ctx, runtime, name)
	if err != nil {
		return nil, err
	}
	container, err := runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		return nil, err
	}
	var about struct {
		SandboxID string `json:"sandboxID"`
		Pid       int    `json:"pid"`
	}
	if err := json.Unmarshal([]byte(container.Info["info"]), &about); err != nil {
		return nil, fmt.Errorf("what the runtime says of container %s: %w", id, err)
	}
	sandbox, err := runtime.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: about.SandboxID, Verbose: true})
	if err != nil {
		return nil, err
	}
	var parent struct {
		Pid int `json:"pid"`
	}
	if err := json.Unmarshal([]byte(sandbox.Info["info"]), &parent); err != nil {
		return nil, fmt.Errorf("what the runtime says of pod sandbox %s: %w", about.SandboxID, err)
	}
	st, pod := container.Status, sandbox.Status.Metadata
	i := &inspection{ID: id, Name: st.Metadata.Name, Attempt: st.Metadata.Attempt, Reason: st.Reason, Image: st.Image.GetUserSpecifiedImage(), LogPath: st.LogPath,
		State: strings.ToLower(strings.TrimPrefix(st.State.String(), "CONTAINER_")),
		Pod:   podRef{Namespace: pod.Namespace, Name: pod.Name, UID: pod.Uid, Sandbox: about.SandboxID, Pid: parent.Pid}}
	if i.Image == "" {
		i.Image = st.Image.GetImage()
	}
	if at := max(st.StartedAt, st.FinishedAt); at > 0 {
		i.Since = time.Unix(0, at).UTC().Format(time.RFC3339)
	}
	if about.Pid == 0 {
		return i, nil
	}
	if err := i.askKernel(about.Pid); err != nil {
		return nil, fmt.Errorf("container %s, process %d: %w", id, about.Pid, err)
	}
	if st.Annotations[hiddenCommandLabel] == "true" {
		i.Process.Argv = append(i.Process.Argv[:min(1, len(i.Process.Argv))], "(hidden: it quotes a Secret)")
	}
	return i, nil
}

// containerNamed finds a container by its id, the beginning of one, what the API
// calls it (runtime://id), or its name if no other has the same.
func containerNamed(ctx context.Context, runtime runtimeapi.RuntimeServiceClient, name string) (string, error) {
	if _, id, ok := strings.Cut(name, "://"); ok {
		name = id
	}
	all, err := runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{})
	if err != nil {
		return "", err
	}
	var found []string
	for _, c := range all.Containers {
		if c.Id == name {
			return c.Id, nil
		}
		if strings.HasPrefix(c.Id, name) || c.Metadata.Name == name && c.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			found = append(found, c.Id)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("no container %q; `kubectl get pod POD -o jsonpath='{.status.containerStatuses[*].containerID}'` names a pod's", name)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%q is ambiguous: %s", name, strings.Join(found, ", "))
}

// print writes the inspection for people.
func (i *inspection) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(w, name+"\t"+format+"\n", args...) }
	line("Container:", "%s", i.ID)
	line("Name:", "%s (attempt %d)", i.Name, i.Attempt)
	line("Pod:", "%s/%s (sandbox %.13s, parent process %d)", i.Pod.Namespace, i.Pod.Name, i.Pod.Sandbox, i.Pod.Pid)
	line("State:", "%s %s since %s", i.State, i.Reason, i.Since)
	line("Image:", "%s", i.Image)
	line("Log:", "%s", i.LogPath)
	if i.Process == nil {
		line("Process:", "none")
		return w.Flush()
	}
	line("Process:", "%d, child of %d (%s)", i.Process.Pid, i.Process.Parent, i.Process.Program)
	line("Argv:", "%q", i.Process.Argv)
	line("User IDs:", "%s (inside, on the node, how many)", i.Process.UIDMap)
	for _, l := range i.Network {
		line("Network:", "%s %s", l.Name, strings.Join(l.Addresses, " "))
		if l.HostName != "" {
			line("", "veth %s (index %d) on the node, on bridge %s", l.HostName, l.HostIndex, l.Bridge)
		}
	}
	fmt.Fprintln(w, "\nNAMESPACE\tINODE\tSHARED WITH")
	for _, ns := range i.Namespaces {
		fmt.Fprintf(w, "%s\t%d\t%s\n", ns.Kind, ns.Inode, ns.Shared)
	}
	fmt.Fprintln(w, "\nCGROUP\tPATH\tLIMITS")
	for _, c := range i.Cgroups {
		var limits []string
		for name, value := range c.Limits {
			limits = append(limits, name+"="+value)
		}
		slices.Sort(limits)
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.Controllers, c.Path, strings.Join(limits, " "))
	}
	fmt.Fprintln(w, "\nMOUNT\tTYPE\tSOURCE\tOPTIONS")
	for _, m := range i.Mounts {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", m.Target, m.Type, m.Source, m.Options)
	}
	return w.Flush()
}
