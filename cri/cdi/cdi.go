// Package cdi finds devices that are described in files, as vendors' device plugins write them, and says what they change
// about a container (Container Device Interface, github.com/cncf-tags/container-device-interface).
//
//	/etc/cdi, /var/run/cdi ──► specs ──► "vendor.com/class=name" ──► Edits: environment, device nodes, mounts, groups
//
// Invariants: files are read when a container asks for a device, never before, so that nothing is out of date; of two
// directories that describe a device the later counts, and two files of one directory that do make it nobody's; what an
// edit asks for and this runtime cannot do is an error by name, since a device half there is worse than none.
//
// Read first: Resolve.
//
// # In Kubernetes
//
// containerd and CRI-O use tags.cncf.io/container-device-interface, which keeps a cache of the files. Left out: hooks,
// network devices, Intel RDT, and owners or modes of device nodes other than the host's; a device with such is refused.
package cdi

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// AnnotationPrefix begins the key of an annotation that asks for devices: qualified names with commas between.
const AnnotationPrefix = "cdi.k8s.io/"

// Edits are what devices change about a container.
type Edits struct {
	Env            []string     `json:"env"` // KEY=VALUE
	DeviceNodes    []DeviceNode `json:"deviceNodes"`
	Mounts         []Mount      `json:"mounts"`
	AdditionalGIDs []uint32     `json:"additionalGids"`
	// What is not done here, known only to be refused.
	Hooks      []any `json:"hooks"`
	NetDevices []any `json:"netDevices"`
	IntelRdt   any   `json:"intelRdt"`
}

// DeviceNode is a device of the host, and where the container finds it.
type DeviceNode struct {
	Path        string  `json:"path"`
	HostPath    string  `json:"hostPath"`    // default: Path
	Permissions string  `json:"permissions"` // of r, w, m; default: all
	FileMode    *uint32 `json:"fileMode"`
	UID         *uint32 `json:"uid"`
	GID         *uint32 `json:"gid"`
}

// Mount is a file or directory of the host, and where the container finds it.
type Mount struct {
	HostPath      string   `json:"hostPath"`
	ContainerPath string   `json:"containerPath"`
	Type          string   `json:"type"`
	Options       []string `json:"options"`
}

// spec is one file.
type spec struct {
	Version string `json:"cdiVersion"`
	Kind    string `json:"kind"` // vendor.com/class
	Devices []struct {
		Name           string `json:"name"`
		ContainerEdits Edits  `json:"containerEdits"`
	} `json:"devices"`
	ContainerEdits Edits `json:"containerEdits"` // for a container with any of the devices
}

// qualified is VENDOR/CLASS=NAME.
var qualified = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*/[A-Za-z][A-Za-z0-9_-]*=[A-Za-z0-9][A-Za-z0-9_.:-]*$`)

// Names are the devices that annotations ask for, in the order of their keys.
func Names(annotations map[string]string) []string {
	var keys, names []string
	for key := range annotations {
		if strings.HasPrefix(key, AnnotationPrefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		for _, name := range strings.Split(annotations[key], ",") {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names
}

// Resolve finds devices by their qualified names, and returns what all of them together change:
//
//  1. read the files of the directories; of several that describe a device, the last directory's counts;
//  2. for each device, its file's edits if they are not there yet, then its own;
//  3. refuse what cannot be done.
//
// A file that cannot be read is an error only if a device is missing: it may be another vendor's.
func Resolve(dirs, names []string) (*Edits, error) {
	// Step 1: read.
	known, damaged := readAll(dirs)
	// Step 2: collect.
	all, missing, done := &Edits{}, []string(nil), map[*spec]bool{}
	asked := map[string]bool{}
	for _, name := range names {
		if !qualified.MatchString(name) {
			return nil, fmt.Errorf("%q is no name of a CDI device: vendor.com/class=name is", name)
		}
		found := known[name]
		switch {
		case asked[name]:
			continue
		case found == nil || found.edits == nil:
			missing = append(missing, name)
			continue
		}
		asked[name] = true
		if !done[found.spec] {
			done[found.spec] = true
			all.add(&found.spec.ContainerEdits)
		}
		all.add(found.edits)
	}
	if len(missing) > 0 {
		return nil, errors.Join(fmt.Errorf("CDI device injection failed: unresolvable CDI devices %s", strings.Join(missing, ", ")), damaged)
	}
	// Step 3: refuse.
	return all, all.refuse()
}

// device is one that some file describes; edits are nil if two files of one directory do.
type device struct {
	spec  *spec
	edits *Edits
	dir   string
}

func readAll(dirs []string) (known map[string]*device, damaged error) {
	known = map[string]*device{}
	var errs []error
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // most hosts have none
		}
		for _, entry := range entries {
			if ext := filepath.Ext(entry.Name()); ext != ".json" && ext != ".yaml" || entry.IsDir() {
				continue
			}
			file := filepath.Join(dir, entry.Name())
			s, err := read(file)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", file, err))
				continue
			}
			for i := range s.Devices {
				name := s.Kind + "=" + s.Devices[i].Name
				d := &device{spec: s, edits: &s.Devices[i].ContainerEdits, dir: dir}
				if before := known[name]; before != nil && before.dir == dir {
					d.edits = nil
					errs = append(errs, fmt.Errorf("%s: another file of that directory describes %s too", file, name))
				}
				known[name] = d
			}
		}
	}
	return known, errors.Join(errs...)
}

func read(file string) (*spec, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	s := &spec{}
	if err := yaml.Unmarshal(data, s); err != nil {
		return nil, err
	}
	if s.Version == "" || s.Kind == "" {
		return nil, errors.New("no CDI specification: cdiVersion or kind is missing")
	}
	return s, nil
}

func (e *Edits) add(more *Edits) {
	e.Env = append(e.Env, more.Env...)
	e.DeviceNodes = append(e.DeviceNodes, more.DeviceNodes...)
	e.Mounts = append(e.Mounts, more.Mounts...)
	e.AdditionalGIDs = append(e.AdditionalGIDs, more.AdditionalGIDs...)
	e.Hooks, e.NetDevices = append(e.Hooks, more.Hooks...), append(e.NetDevices, more.NetDevices...)
	if more.IntelRdt != nil {
		e.IntelRdt = more.IntelRdt
	}
}

// refuse names what this runtime cannot do.
func (e *Edits) refuse() error {
	cannot := func(what string) error {
		return fmt.Errorf("CDI device injection failed: this runtime does without %s; use containerd or CRI-O", what)
	}
	switch {
	case len(e.Hooks) > 0:
		return cannot("hooks")
	case len(e.NetDevices) > 0:
		return cannot("network devices (netDevices)")
	case e.IntelRdt != nil:
		return cannot("intelRdt")
	}
	for _, node := range e.DeviceNodes {
		if node.FileMode != nil || node.UID != nil || node.GID != nil {
			return cannot("another owner or mode of " + node.Path + " than the host's")
		}
	}
	for _, mount := range e.Mounts {
		if mount.Type != "" && mount.Type != "bind" && mount.Type != "none" {
			return cannot("mounts of type " + mount.Type)
		}
		for _, option := range mount.Options {
			if !slices.Contains(mountOptions, option) {
				return cannot("the mount option " + option)
			}
		}
	}
	return nil
}

// mountOptions are those that a bind mount of a container has anyway, or can have. nosuid and nodev pass without effect: such
// a mount is like a hostPath's, and specifications name them for nearly every library.
var mountOptions = []string{"bind", "rbind", "ro", "rw", "private", "rprivate", "slave", "rslave", "nosuid", "nodev"}
