package pod

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// validateLivenessProbe checks liveness and startup probes: one success must be enough.
func validateLivenessProbe(probe *v1.Probe, path *field.Path) field.ErrorList {
	if probe == nil {
		return nil
	}
	errs := validateProbe(probe, path)
	if probe.SuccessThreshold != 1 {
		errs = append(errs, field.Invalid(path.Child("successThreshold"), probe.SuccessThreshold, "must be 1"))
	}
	return errs
}

// validateReadinessProbe: a container that is not ready is not killed, so it has no grace period.
func validateReadinessProbe(probe *v1.Probe, path *field.Path) field.ErrorList {
	if probe == nil {
		return nil
	}
	errs := validateProbe(probe, path)
	if probe.TerminationGracePeriodSeconds != nil {
		errs = append(errs, field.Invalid(path.Child("terminationGracePeriodSeconds"), probe.TerminationGracePeriodSeconds, "must not be set for readinessProbes"))
	}
	return errs
}

func validateProbe(probe *v1.Probe, path *field.Path) field.ErrorList {
	errs := handler{exec: probe.Exec, httpGet: probe.HTTPGet, tcpSocket: probe.TCPSocket, grpc: probe.GRPC}.validate(nil, path)
	errs = append(errs, rule.NonNegative(int64(probe.InitialDelaySeconds), path.Child("initialDelaySeconds"))...)
	errs = append(errs, rule.NonNegative(int64(probe.TimeoutSeconds), path.Child("timeoutSeconds"))...)
	errs = append(errs, rule.NonNegative(int64(probe.PeriodSeconds), path.Child("periodSeconds"))...)
	errs = append(errs, rule.NonNegative(int64(probe.SuccessThreshold), path.Child("successThreshold"))...)
	errs = append(errs, rule.NonNegative(int64(probe.FailureThreshold), path.Child("failureThreshold"))...)
	if grace := probe.TerminationGracePeriodSeconds; grace != nil && *grace <= 0 {
		errs = append(errs, field.Invalid(path.Child("terminationGracePeriodSeconds"), *grace, "must be greater than 0"))
	}
	return errs
}

func validateLifecycle(lifecycle *v1.Lifecycle, grace *int64, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if h := lifecycle.PostStart; h != nil {
		errs = append(errs, handler{exec: h.Exec, httpGet: h.HTTPGet, tcpSocket: h.TCPSocket, sleep: h.Sleep}.validate(grace, path.Child("postStart"))...)
	}
	if h := lifecycle.PreStop; h != nil {
		errs = append(errs, handler{exec: h.Exec, httpGet: h.HTTPGet, tcpSocket: h.TCPSocket, sleep: h.Sleep}.validate(grace, path.Child("preStop"))...)
	}
	return errs
}

// handler is the one action of a probe or a hook.
type handler struct {
	exec      *v1.ExecAction
	httpGet   *v1.HTTPGetAction
	tcpSocket *v1.TCPSocketAction
	grpc      *v1.GRPCAction
	sleep     *v1.SleepAction
}

func (h handler) validate(grace *int64, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	found := 0
	check := func(set bool, name string, rules func(at *field.Path) field.ErrorList) {
		if !set {
			return
		}
		found++
		if found > 1 {
			errs = append(errs, field.Forbidden(path.Child(name), "may not specify more than 1 handler type"))
			return
		}
		errs = append(errs, rules(path.Child(name))...)
	}
	check(h.exec != nil, "exec", func(at *field.Path) field.ErrorList {
		if len(h.exec.Command) == 0 {
			return field.ErrorList{field.Required(at.Child("command"), "")}
		}
		return nil
	})
	check(h.httpGet != nil, "httpGet", func(at *field.Path) field.ErrorList { return validateHTTPGet(h.httpGet, at) })
	check(h.tcpSocket != nil, "tcpSocket", func(at *field.Path) field.ErrorList {
		return rule.PortNumOrName(h.tcpSocket.Port, at.Child("port"))
	})
	check(h.grpc != nil, "grpc", func(at *field.Path) field.ErrorList {
		return rule.All(validation.IsValidPortNum(int(h.grpc.Port)), at.Child("port"), int(h.grpc.Port))
	})
	check(h.sleep != nil, "sleep", func(at *field.Path) field.ErrorList {
		if grace != nil && (h.sleep.Seconds < 0 || h.sleep.Seconds > *grace) {
			return field.ErrorList{field.Invalid(at, h.sleep.Seconds, fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", *grace))}
		}
		return nil
	})
	if found == 0 {
		errs = append(errs, field.Required(path, "must specify a handler type"))
	}
	return errs
}

func validateHTTPGet(action *v1.HTTPGetAction, path *field.Path) field.ErrorList {
	errs := rule.NonEmpty(action.Path, path.Child("path"))
	errs = append(errs, rule.PortNumOrName(action.Port, path.Child("port"))...)
	errs = append(errs, rule.OneOf(action.Scheme, path.Child("scheme"), v1.URISchemeHTTP, v1.URISchemeHTTPS)...)
	for _, header := range action.HTTPHeaders {
		errs = append(errs, rule.All(validation.IsHTTPHeaderName(header.Name), path.Child("httpHeaders"), header.Name)...)
	}
	return errs
}
