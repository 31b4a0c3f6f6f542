// Package envvars makes the environment that services give to containers, and
// expands $(VAR) in commands and values. All of it is pure.
//
// In Kubernetes: pkg/kubelet/envvars and k8s.io/kubernetes/third_party/forked/golang/expansion.
package envvars

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// FromServices makes <SVC>_SERVICE_HOST, <SVC>_SERVICE_PORT and the variables of
// Docker's links, for each service with a cluster address.
func FromServices(services []*v1.Service) []v1.EnvVar {
	var result []v1.EnvVar
	for _, service := range services {
		if service.Spec.ClusterIP == v1.ClusterIPNone || service.Spec.ClusterIP == "" || len(service.Spec.Ports) == 0 {
			continue
		}
		prefix := makeEnvVariableName(service.Name)
		result = append(result, v1.EnvVar{Name: prefix + "_SERVICE_HOST", Value: service.Spec.ClusterIP})
		result = append(result, v1.EnvVar{Name: prefix + "_SERVICE_PORT", Value: strconv.Itoa(int(service.Spec.Ports[0].Port))})
		for i := range service.Spec.Ports {
			if port := &service.Spec.Ports[i]; port.Name != "" {
				result = append(result, v1.EnvVar{Name: prefix + "_SERVICE_PORT_" + makeEnvVariableName(port.Name), Value: strconv.Itoa(int(port.Port))})
			}
		}
		result = append(result, makeLinkVariables(service, prefix)...)
	}
	return result
}

func makeEnvVariableName(s string) string {
	return strings.ToUpper(strings.ReplaceAll(s, "-", "_"))
}

func makeLinkVariables(service *v1.Service, prefix string) []v1.EnvVar {
	var all []v1.EnvVar
	for i := range service.Spec.Ports {
		port := &service.Spec.Ports[i]
		protocol := string(v1.ProtocolTCP)
		if port.Protocol != "" {
			protocol = string(port.Protocol)
		}
		number := strconv.Itoa(int(port.Port))
		hostPort := net.JoinHostPort(service.Spec.ClusterIP, number)
		url := fmt.Sprintf("%s://%s", strings.ToLower(protocol), hostPort)
		if i == 0 {
			all = append(all, v1.EnvVar{Name: prefix + "_PORT", Value: url})
		}
		portPrefix := fmt.Sprintf("%s_PORT_%s_%s", prefix, number, strings.ToUpper(protocol))
		all = append(all,
			v1.EnvVar{Name: portPrefix, Value: url},
			v1.EnvVar{Name: portPrefix + "_PROTO", Value: strings.ToLower(protocol)},
			v1.EnvVar{Name: portPrefix + "_PORT", Value: number},
			v1.EnvVar{Name: portPrefix + "_ADDR", Value: service.Spec.ClusterIP},
		)
	}
	return all
}

// ExpandCommand expands $(VAR) in a container's command and args.
func ExpandCommand(container *v1.Container, envs []*runtimeapi.KeyValue) (command, args []string) {
	values := map[string]string{}
	for _, env := range envs {
		values[env.Key] = string(env.Value)
	}
	lookup := func(name string) (string, bool) { v, ok := values[name]; return v, ok }
	for _, word := range container.Command {
		command = append(command, Expand(word, lookup))
	}
	for _, word := range container.Args {
		args = append(args, Expand(word, lookup))
	}
	return command, args
}

// ExpandStatic expands $(VAR) in a command with what the container's definition says as it stands; what a variable gets from
// elsewhere is empty here.
func ExpandStatic(command []string, envs []v1.EnvVar) []string {
	values := map[string]string{}
	for _, env := range envs {
		values[env.Name] = env.Value
	}
	var words []string
	for _, word := range command {
		words = append(words, Expand(word, func(name string) (string, bool) { v, ok := values[name]; return v, ok }))
	}
	return words
}

// Expand replaces $(NAME) by its value. What has no value stays as it stands;
// $$ is a dollar, so that $$(NAME) stays $(NAME).
func Expand(input string, lookup func(string) (string, bool)) string {
	var out strings.Builder
	for i := 0; i < len(input); i++ {
		if input[i] != '$' || i+1 == len(input) {
			out.WriteByte(input[i])
			continue
		}
		switch input[i+1] {
		case '$':
			out.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(input[i+2:], ')')
			if end < 0 {
				out.WriteString("$(")
				i++
				continue
			}
			name := input[i+2 : i+2+end]
			if value, ok := lookup(name); ok {
				out.WriteString(value)
			} else {
				out.WriteString("$(" + name + ")")
			}
			i += 2 + end
		default:
			out.WriteByte('$')
		}
	}
	return out.String()
}
