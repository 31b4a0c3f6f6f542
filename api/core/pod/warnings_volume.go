package pod

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
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

// place is a path in a volume, and for a projected one the source it comes from.
type place struct{ path, source string }

func (p place) String() string {
	if p.source == "" {
		return fmt.Sprintf("%q", p.path)
	}
	return fmt.Sprintf("%q (%s)", p.path, p.source)
}

// warnOverlaps tells of two keys of a volume that want one path, or of which one wants a directory where the other has a file.
func warnOverlaps(volumes []v1.Volume) []string {
	var all []string
	for i := range volumes {
		v := &volumes[i]
		if v.ConfigMap != nil {
			all = append(all, overlaps(v, itemPlaces(v.ConfigMap.Items, ""), func() string { return fmt.Sprintf("ConfigMap %q", v.ConfigMap.Name) })...)
		}
		if v.Secret != nil {
			all = append(all, overlaps(v, itemPlaces(v.Secret.Items, ""), func() string { return fmt.Sprintf("Secret %q", v.Secret.SecretName) })...)
		}
		if v.DownwardAPI != nil {
			all = append(all, overlaps(v, downwardPlaces(v.DownwardAPI.Items, ""), func() string { return "DownwardAPI" })...)
		}
		if v.Projected == nil {
			continue
		}
		var places []place
		for j := range v.Projected.Sources {
			if v.Projected.Sources[j] == (v1.VolumeProjection{}) {
				all = append(all, fmt.Sprintf("volume %q (Projected) has no sources provided", v.Name))
			}
			places = append(places, projectedPlaces(&v.Projected.Sources[j])...)
		}
		all = append(all, overlaps(v, places, func() string { return "Projected" })...)
	}
	return all
}

func projectedPlaces(source *v1.VolumeProjection) []place {
	switch {
	case source.ConfigMap != nil && source.ConfigMap.Items != nil:
		return itemPlaces(source.ConfigMap.Items, fmt.Sprintf("ConfigMap %q", source.ConfigMap.Name))
	case source.Secret != nil && source.Secret.Items != nil:
		return itemPlaces(source.Secret.Items, fmt.Sprintf("Secret %q", source.Secret.Name))
	case source.DownwardAPI != nil && source.DownwardAPI.Items != nil:
		return downwardPlaces(source.DownwardAPI.Items, "DownwardAPI")
	case source.ServiceAccountToken != nil:
		return []place{{source.ServiceAccountToken.Path, "ServiceAccountToken"}}
	case source.ClusterTrustBundle != nil:
		name := source.ClusterTrustBundle.Name
		if name == nil {
			name = source.ClusterTrustBundle.SignerName
		}
		return []place{{source.ClusterTrustBundle.Path, fmt.Sprintf("ClusterTrustBundle %q", ptr.Deref(name, ""))}}
	case source.PodCertificate != nil:
		c := source.PodCertificate
		places := []place{{c.CertificateChainPath, "PodCertificate chain"}, {c.KeyPath, "PodCertificate key"}, {c.CredentialBundlePath, "PodCertificate credential bundle"}}
		return slices.DeleteFunc(places, func(p place) bool { return p.path == "" })
	}
	return nil
}

func itemPlaces(items []v1.KeyToPath, source string) []place {
	if len(items) == 0 {
		return nil
	}
	places := make([]place, len(items))
	for i, item := range items {
		places[i] = place{item.Path, source}
	}
	return places
}

func downwardPlaces(items []v1.DownwardAPIVolumeFile, source string) []place {
	places := make([]place, len(items))
	for i, item := range items {
		places[i] = place{item.Path, source}
	}
	return places
}

// overlaps tells of each place and each one before it that it collides with.
func overlaps(v *v1.Volume, places []place, kind func() string) []string {
	var all []string
	for i := range places {
		p := &places[i]
		p.path = strings.TrimRight(p.path, "/")
		for _, before := range places[:i] {
			if collide(p.path, before.path) {
				all = append(all, fmt.Sprintf("volume %q (%s): overlapping paths: %s with %s", v.Name, kind(), p, before))
			}
		}
	}
	return all
}

func collide(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}
