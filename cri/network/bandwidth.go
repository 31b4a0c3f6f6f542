package network

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"
)

// The annotations that limit a pod's bandwidth, in bits a second: 10M.
const (
	IngressBandwidth = "kubernetes.io/ingress-bandwidth"
	EgressBandwidth  = "kubernetes.io/egress-bandwidth"
)

// Bandwidth is what plugins with the capability "bandwidth" are told, as the conventions of CNI have it: rates in bits
// a second and bursts in bits; 0: no limit.
type Bandwidth struct {
	IngressRate  uint64 `json:"ingressRate,omitempty"`
	IngressBurst uint64 `json:"ingressBurst,omitempty"`
	EgressRate   uint64 `json:"egressRate,omitempty"`
	EgressBurst  uint64 `json:"egressBurst,omitempty"`
}

// The least and the most that is taken for a limit.
var minBandwidth, maxBandwidth = resource.MustParse("1k"), resource.MustParse("1P")

// ParseBandwidth reads the limits from a pod's annotations; nil: there are none.
func ParseBandwidth(annotations map[string]string) (*Bandwidth, error) {
	ingress, err := parseRate(annotations, IngressBandwidth)
	if err != nil {
		return nil, err
	}
	egress, err := parseRate(annotations, EgressBandwidth)
	if err != nil || ingress == 0 && egress == 0 {
		return nil, err
	}
	return &Bandwidth{IngressRate: ingress, IngressBurst: burstOf(ingress), EgressRate: egress, EgressBurst: burstOf(egress)}, nil
}

func parseRate(annotations map[string]string, key string) (uint64, error) {
	text, ok := annotations[key]
	if !ok {
		return 0, nil
	}
	rate, err := resource.ParseQuantity(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("annotation %s=%q: %w", key, text, err)
	case rate.Cmp(minBandwidth) < 0:
		return 0, fmt.Errorf("annotation %s=%q: resource is unreasonably small (< 1kbit)", key, text)
	case rate.Cmp(maxBandwidth) > 0:
		return 0, fmt.Errorf("annotation %s=%q: resource is unreasonably large (> 1Pbit)", key, text)
	}
	return uint64(rate.Value()), nil
}

// burstOf is what may pass at once: a tenth of a second's worth, since containers answer in bursts, and at least 64 KiB,
// the largest packet that the kernel hands on between links. containerd allows half a gigabyte, so that a limit is not
// seen before so much has passed.
func burstOf(rate uint64) uint64 {
	if rate == 0 {
		return 0
	}
	return max(rate/10, 64<<10*8)
}
