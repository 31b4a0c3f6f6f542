package cri

import (
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"hyperkube/cri/cdi"
)

// injectCDI is the container as it is with the devices that its configuration, or an annotation, names by CDI. The
// configuration itself stays: it is what the kubelet is told of the container later.
func (c *CRI) injectCDI(config *runtimeapi.ContainerConfig) (*runtimeapi.ContainerConfig, error) {
	names := cdi.Names(config.Annotations)
	for _, device := range config.CDIDevices {
		names = append(names, device.GetName())
	}
	if len(names) == 0 {
		return config, nil
	}
	edits, err := cdi.Resolve(c.cfg.CDISpecDirs, names)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	config = proto.Clone(config).(*runtimeapi.ContainerConfig)
	for _, env := range edits.Env {
		key, value, _ := strings.Cut(env, "=")
		config.Envs = append(config.Envs, &runtimeapi.KeyValue{Key: key, Value: []byte(value)})
	}
	for _, node := range edits.DeviceNodes {
		config.Devices = append(config.Devices, &runtimeapi.Device{HostPath: firstOf(node.HostPath, node.Path), ContainerPath: node.Path, Permissions: node.Permissions})
	}
	for _, m := range edits.Mounts {
		mount := &runtimeapi.Mount{HostPath: m.HostPath, ContainerPath: m.ContainerPath, Readonly: slices.Contains(m.Options, "ro")}
		if slices.Contains(m.Options, "rslave") || slices.Contains(m.Options, "slave") {
			mount.Propagation = runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
		}
		config.Mounts = append(config.Mounts, mount)
	}
	if len(edits.AdditionalGIDs) > 0 {
		if config.Linux == nil {
			config.Linux = &runtimeapi.LinuxContainerConfig{}
		}
		if config.Linux.SecurityContext == nil {
			config.Linux.SecurityContext = &runtimeapi.LinuxContainerSecurityContext{}
		}
		for _, gid := range edits.AdditionalGIDs {
			config.Linux.SecurityContext.SupplementalGroups = append(config.Linux.SecurityContext.SupplementalGroups, int64(gid))
		}
	}
	return config, nil
}
