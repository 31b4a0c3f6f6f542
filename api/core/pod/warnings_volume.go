package pod

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// warnVolume tells of kinds of volumes that nobody mounts any more.
func warnVolume(volume *v1.Volume, path *field.Path) []string {
	var all []string
	for _, plugin := range []struct {
		name, text string
		set        bool
	}{
		{"photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+", volume.PhotonPersistentDisk != nil},
		{"gitRepo", "deprecated in v1.11, and disabled by default in v1.33+", volume.GitRepo != nil},
		{"scaleIO", "deprecated in v1.16, non-functional in v1.22+", volume.ScaleIO != nil},
		{"flocker", "deprecated in v1.22, non-functional in v1.25+", volume.Flocker != nil},
		{"storageOS", "deprecated in v1.22, non-functional in v1.25+", volume.StorageOS != nil},
		{"quobyte", "deprecated in v1.22, non-functional in v1.25+", volume.Quobyte != nil},
		{"glusterfs", "deprecated in v1.25, non-functional in v1.26+", volume.Glusterfs != nil},
		{"cephfs", "deprecated in v1.28, non-functional in v1.31+", volume.CephFS != nil},
		{"rbd", "deprecated in v1.28, non-functional in v1.31+", volume.RBD != nil},
	} {
		if plugin.set {
			all = append(all, fmt.Sprintf("%s: %s", path.Child(plugin.name), plugin.text))
		}
	}
	if e := volume.Ephemeral; e != nil && e.VolumeClaimTemplate != nil {
		all = append(all, WarningsForClaimSpec(&e.VolumeClaimTemplate.Spec, path.Child("ephemeral", "volumeClaimTemplate", "spec"))...)
	}
	return all
}

// warnOverlaps tells of two keys of a volume that want one path, or of which one wants a directory where the other has a file.
func warnOverlaps(volumes []v1.Volume) []string {
	var all []string
	for i := range volumes {
		v := &volumes[i]
		if v.ConfigMap != nil {
			all = append(all, overlaps(itemPaths(v.ConfigMap.Items), func() string {
				return fmt.Sprintf("volume %q (ConfigMap %q): overlapping paths", v.Name, v.ConfigMap.Name)
			})...)
		}
		if v.Secret != nil {
			all = append(all, overlaps(itemPaths(v.Secret.Items), func() string {
				return fmt.Sprintf("volume %q (Secret %q): overlapping paths", v.Name, v.Secret.SecretName)
			})...)
		}
		if v.DownwardAPI != nil {
			all = append(all, overlaps(downwardPaths(v.DownwardAPI.Items), func() string { return fmt.Sprintf("volume %q (DownwardAPI): overlapping paths", v.Name) })...)
		}
		if v.Projected != nil {
			all = append(all, projectedOverlaps(v)...)
		}
	}
	return all
}

// projectedOverlaps compares the paths within each source, and then with those of the sources before it.
func projectedOverlaps(v *v1.Volume) []string {
	var all, before []string
	for _, source := range v.Projected.Sources {
		if source == (v1.VolumeProjection{}) {
			all = append(all, fmt.Sprintf("volume %q (Projected) has no sources provided", v.Name))
			continue
		}
		paths, name := projectedPaths(&source)
		text := func() string { return fmt.Sprintf("volume %q (Projected %s): overlapping paths", v.Name, name) }
		all = append(all, overlaps(paths, text)...)
		slices.Sort(paths)
		paths = slices.Compact(paths)
		together := append(slices.Clone(before), paths...)
		slices.Sort(together)
		all = append(all, overlaps(together, text)...)
		before = append(before, paths...)
	}
	return all
}

func projectedPaths(source *v1.VolumeProjection) ([]string, string) {
	switch {
	case source.ConfigMap != nil:
		return itemPaths(source.ConfigMap.Items), fmt.Sprintf("ConfigMap %q", source.ConfigMap.Name)
	case source.Secret != nil:
		return itemPaths(source.Secret.Items), fmt.Sprintf("Secret %q", source.Secret.Name)
	case source.DownwardAPI != nil:
		return downwardPaths(source.DownwardAPI.Items), "DownwardAPI"
	case source.ServiceAccountToken != nil:
		return []string{source.ServiceAccountToken.Path}, "ServiceAccountToken"
	case source.ClusterTrustBundle != nil:
		bundle := source.ClusterTrustBundle
		name := bundle.SignerName
		if bundle.Name != nil {
			name = bundle.Name
		}
		if name == nil {
			return []string{bundle.Path}, "ClusterTrustBundle"
		}
		return []string{bundle.Path}, fmt.Sprintf("ClusterTrustBundle %q", *name)
	case source.PodCertificate != nil:
		return certificatePaths(source.PodCertificate), "PodCertificate chain"
	}
	return nil, ""
}

func itemPaths(items []v1.KeyToPath) []string {
	paths := make([]string, len(items))
	for i, item := range items {
		paths[i] = item.Path
	}
	return paths
}

func downwardPaths(items []v1.DownwardAPIVolumeFile) []string {
	paths := make([]string, len(items))
	for i, item := range items {
		paths[i] = item.Path
	}
	return paths
}

// overlaps are the paths that collide with one before them, each with the first such.
func overlaps(paths []string, text func() string) []string {
	var all, before []string
	for _, path := range paths {
		path = strings.TrimRight(path, "/")
		if i := slices.IndexFunc(before, func(other string) bool { return collide(path, other) }); i >= 0 {
			all = append(all, fmt.Sprintf("%s: %q with %q", text(), path, before[i]))
		}
		before = append(before, path)
	}
	return all
}

func collide(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}
