package kubeletconfig

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	configv1beta1 "k8s.io/kubelet/config/v1beta1"
)

// flags are the fields that act here, with the flags that they are.
var flags = map[string]string{
	"address": "address", "port": "port", "tlsCertFile": "tls-cert-file", "tlsPrivateKeyFile": "tls-private-key-file",
	"tlsMinVersion": "tls-min-version", "tlsCipherSuites": "tls-cipher-suites",
	"authentication.anonymous.enabled": "anonymous-auth", "authentication.x509.clientCAFile": "client-ca-file",
	"authentication.webhook.enabled": "authentication-token-webhook", "authentication.webhook.cacheTTL": "authentication-token-webhook-cache-ttl",
	"authorization.mode": "authorization-mode", "authorization.webhook.cacheAuthorizedTTL": "authorization-webhook-cache-authorized-ttl",
	"authorization.webhook.cacheUnauthorizedTTL": "authorization-webhook-cache-unauthorized-ttl",
	"rotateCertificates":                         "rotate-certificates", "serverTLSBootstrap": "rotate-server-certificates",
	"staticPodPath": "pod-manifest-path", "staticPodURL": "manifest-url", "fileCheckFrequency": "file-check-frequency",
	"clusterDNS": "cluster-dns", "clusterDomain": "cluster-domain", "resolvConf": "resolv-conf", "podCIDR": "pod-cidr",
	"maxPods": "max-pods", "podPidsLimit": "pod-max-pids", "userNamespaces.idsPerPod": "user-namespaces-ids-per-pod",
	"registerWithTaints": "register-with-taints", "nodeStatusUpdateFrequency": "node-status-update-frequency",
	"nodeStatusReportFrequency": "node-status-report-frequency", "nodeLeaseDurationSeconds": "node-lease-duration-seconds",
	"enforceNodeAllocatable": "enforce-node-allocatable", "kubeReserved": "kube-reserved", "systemReserved": "system-reserved",
	"evictionHard": "eviction-hard", "evictionSoft": "eviction-soft", "evictionSoftGracePeriod": "eviction-soft-grace-period",
	"evictionMinimumReclaim": "eviction-minimum-reclaim", "evictionPressureTransitionPeriod": "eviction-pressure-transition-period",
	"evictionMaxPodGracePeriod": "eviction-max-pod-grace-period",
	"imageMinimumGCAge":         "minimum-image-ttl-duration", "imageMaximumGCAge": "image-maximum-gc-age",
	"imageGCHighThresholdPercent": "image-gc-high-threshold", "imageGCLowThresholdPercent": "image-gc-low-threshold",
	"containerLogMaxSize": "container-log-max-size", "containerLogMaxFiles": "container-log-max-files",
	"registryPullQPS": "registry-qps", "registryBurst": "registry-burst", "serializeImagePulls": "serialize-image-pulls", "maxParallelImagePulls": "max-parallel-image-pulls",
	"eventRecordQPS": "event-qps", "eventBurst": "event-burst",
	"seccompDefault": "seccomp-default", "allowedUnsafeSysctls": "allowed-unsafe-sysctls", "failSwapOn": "fail-swap-on", "singleProcessOOMKill": "single-process-oom-kill",
	"crashLoopBackOff.maxContainerRestartPeriod": "max-container-restart-period",
	"shutdownGracePeriod":                        "shutdown-grace-period", "shutdownGracePeriodCriticalPods": "shutdown-grace-period-critical-pods",
	"shutdownGracePeriodByPodPriority": "shutdown-grace-period-by-pod-priority",
	"containerRuntimeEndpoint":         "container-runtime-endpoint", "contentType": "kube-api-content-type",
}

// reasons say why a field does nothing here; the others have no counterpart.
var reasons = map[string]string{
	"readOnlyPort":         "there is no port without authentication",
	"cgroupDriver":         "the runtime says which it is",
	"cgroupRoot":           "each cluster has a root of its own",
	"featureGates":         "there are none",
	"kubeAPIQPS":           "the client has no limit; the apiserver's priority and fairness does the limiting",
	"kubeAPIBurst":         "the client has no limit; the apiserver's priority and fairness does the limiting",
	"logging":              "the flag --log-level says it",
	"healthzPort":          "/healthz is on the kubelet's own port",
	"imageServiceEndpoint": "images are the container runtime's",
	// This one has been dealt with when the defaults were set.
	"mergeDefaultEvictionSettings": "",
}

// settings sorts the fields that are set into those that are flags and those that are not. A field is set if it is a pointer,
// list or map that is there, or a value that is not zero.
func settings(config *configv1beta1.KubeletConfiguration) (list []Setting, ignored []string) {
	visit(reflect.ValueOf(config).Elem(), "", func(name string, value any) {
		if flag, ok := flags[name]; ok {
			list = append(list, Setting{name, flag, text(name, value)})
			return
		}
		reason, known := reasons[name]
		if section, _, nested := strings.Cut(name, "."); nested && !known {
			reason, known = reasons[section]
		}
		switch {
		case !known:
			ignored = append(ignored, name+": it has no counterpart here")
		case reason != "":
			ignored = append(ignored, name+": "+reason)
		}
	})
	return list, ignored
}

// visit calls see for each field that is set, by its name in JSON; a structure's fields have its name and a dot before theirs.
func visit(v reflect.Value, prefix string, see func(name string, value any)) {
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		field := v.Field(i)
		if name == "" || field.IsZero() {
			continue // TypeMeta has no name
		}
		if field.Kind() == reflect.Pointer {
			field = field.Elem()
		}
		if _, isDuration := field.Interface().(metav1.Duration); field.Kind() == reflect.Struct && !isDuration {
			visit(field, prefix+name+".", see)
			continue
		}
		see(prefix+name, field.Interface())
	}
}

// text is a value as its flag takes it.
func text(field string, value any) string {
	switch value := value.(type) {
	case metav1.Duration:
		return value.Duration.String()
	case []string:
		return strings.Join(value, ",")
	case map[string]string:
		between := "="
		if field == "evictionHard" || field == "evictionSoft" {
			between = "<"
		}
		var words []string
		for _, key := range slices.Sorted(maps.Keys(value)) {
			words = append(words, key+between+value[key])
		}
		return strings.Join(words, ",")
	case []v1.Taint:
		var words []string
		for _, taint := range value {
			words = append(words, taint.ToString())
		}
		return strings.Join(words, ",")
	case []configv1beta1.ShutdownGracePeriodByPodPriority:
		var words []string
		for _, p := range value {
			words = append(words, fmt.Sprintf("%d=%ds", p.Priority, p.ShutdownGracePeriodSeconds))
		}
		return strings.Join(words, ",")
	}
	return fmt.Sprint(value)
}
