package core

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"

	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

var configMapTable = typed.Table(func(m *v1.ConfigMap) []any {
	return []any{m.Name, int64(len(m.Data) + len(m.BinaryData)), column.Since(m.CreationTimestamp)}
}, column.Name(), column.Text("Data", v1.ConfigMap{}.SwaggerDoc()["data"]), column.Age())

var secretTable = typed.Table(func(s *v1.Secret) []any {
	return []any{s.Name, string(s.Type), int64(len(s.Data)), column.Since(s.CreationTimestamp)}
},
	column.Name(),
	column.Text("Type", v1.Secret{}.SwaggerDoc()["type"]),
	column.Text("Data", v1.Secret{}.SwaggerDoc()["data"]),
	column.Age(),
)

var serviceAccountTable = typed.Table(func(a *v1.ServiceAccount) []any {
	return []any{a.Name, column.Since(a.CreationTimestamp)}
}, column.Name(), column.Age())

var endpointsTable = typed.Table(func(e *v1.Endpoints) []any {
	return []any{e.Name, formatEndpoints(e), column.Since(e.CreationTimestamp)}
}, column.Name(), column.Text("Endpoints", v1.Endpoints{}.SwaggerDoc()["subsets"]), column.Age())

// maxEndpoints are shown; of the others only the number.
const maxEndpoints = 3

func formatEndpoints(e *v1.Endpoints) string {
	var list []string
	count := 0
	show := func(endpoint string) {
		if count < maxEndpoints {
			list = append(list, endpoint)
		}
		count++
	}
	for _, subset := range e.Subsets {
		if len(subset.Ports) == 0 {
			for _, address := range subset.Addresses {
				show(address.IP)
			}
		}
		for _, port := range subset.Ports {
			for _, address := range subset.Addresses {
				show(net.JoinHostPort(address.IP, strconv.Itoa(int(port.Port))))
			}
		}
	}
	if count == 0 {
		return "<none>"
	}
	shown := strings.Join(list, ",")
	if count > maxEndpoints {
		return fmt.Sprintf("%s + %d more...", shown, count-maxEndpoints)
	}
	return shown
}
