package pod

import v1 "k8s.io/api/core/v1"

// VisitPodSecretNames calls visit with the name of each Secret that the pod refers to, by whatever
// field, until visit returns false. Names may come more than once. Whoever runs the pod needs these,
// and nobody else's: the node authorizer lets a kubelet read what this visits.
func VisitPodSecretNames(pod *v1.Pod, visit func(name string) bool) bool {
	return visitReferences(pod, visit, nil)
}

// VisitPodConfigmapNames is VisitPodSecretNames for ConfigMaps.
func VisitPodConfigmapNames(pod *v1.Pod, visit func(name string) bool) bool {
	return visitReferences(pod, nil, visit)
}

// VisitPodPersistentVolumeClaimNames calls visit with the name of each claim, those that are made for the
// pod's ephemeral volumes included, until visit returns false.
func VisitPodPersistentVolumeClaimNames(pod *v1.Pod, visit func(name string) bool) bool {
	for i := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[i]
		switch {
		case volume.PersistentVolumeClaim != nil:
			if !visit(volume.PersistentVolumeClaim.ClaimName) {
				return false
			}
		case volume.Ephemeral != nil:
			if !visit(pod.Name + "-" + volume.Name) {
				return false
			}
		}
	}
	return true
}

// visitReferences goes through the pod once; a nil visitor is not called.
func visitReferences(pod *v1.Pod, secret, configMap func(name string) bool) bool {
	see := func(visit func(string) bool, name string) bool { return visit == nil || name == "" || visit(name) }
	for _, ref := range pod.Spec.ImagePullSecrets {
		if !see(secret, ref.Name) {
			return false
		}
	}
	if !VisitContainers(&pod.Spec, AllContainers, func(c *v1.Container, _ ContainerType) bool {
		for _, from := range c.EnvFrom {
			if from.SecretRef != nil && !see(secret, from.SecretRef.Name) {
				return false
			}
			if from.ConfigMapRef != nil && !see(configMap, from.ConfigMapRef.Name) {
				return false
			}
		}
		for _, env := range c.Env {
			if env.ValueFrom == nil {
				continue
			}
			if ref := env.ValueFrom.SecretKeyRef; ref != nil && !see(secret, ref.Name) {
				return false
			}
			if ref := env.ValueFrom.ConfigMapKeyRef; ref != nil && !see(configMap, ref.Name) {
				return false
			}
		}
		return true
	}) {
		return false
	}
	for i := range pod.Spec.Volumes {
		secrets, configMaps := volumeReferences(&pod.Spec.Volumes[i].VolumeSource)
		for _, name := range secrets {
			if !see(secret, name) {
				return false
			}
		}
		for _, name := range configMaps {
			if !see(configMap, name) {
				return false
			}
		}
	}
	return true
}

func volumeReferences(v *v1.VolumeSource) (secrets, configMaps []string) {
	local := func(ref *v1.LocalObjectReference) {
		if ref != nil {
			secrets = append(secrets, ref.Name)
		}
	}
	switch {
	case v.Secret != nil:
		secrets = append(secrets, v.Secret.SecretName)
	case v.ConfigMap != nil:
		configMaps = append(configMaps, v.ConfigMap.Name)
	case v.Projected != nil:
		for _, source := range v.Projected.Sources {
			if source.Secret != nil {
				secrets = append(secrets, source.Secret.Name)
			}
			if source.ConfigMap != nil {
				configMaps = append(configMaps, source.ConfigMap.Name)
			}
		}
	case v.CSI != nil:
		local(v.CSI.NodePublishSecretRef)
	case v.ISCSI != nil:
		local(v.ISCSI.SecretRef)
	case v.FlexVolume != nil:
		local(v.FlexVolume.SecretRef)
	case v.AzureFile != nil:
		secrets = append(secrets, v.AzureFile.SecretName)
	case v.CephFS != nil:
		local(v.CephFS.SecretRef)
	case v.Cinder != nil:
		local(v.Cinder.SecretRef)
	case v.RBD != nil:
		local(v.RBD.SecretRef)
	case v.ScaleIO != nil:
		local(v.ScaleIO.SecretRef)
	case v.StorageOS != nil:
		local(v.StorageOS.SecretRef)
	}
	return secrets, configMaps
}
