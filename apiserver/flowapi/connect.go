package flowapi

import "hyperkube/apiserver/request"

// Connects tells the requests that stay open and are part of a pod's story all the same:
// somebody looked into it. Only that they did is recorded, when they have done; never the
// command, nor what went through.
func Connects(info *request.Info) bool {
	if info.APIGroup != "" || info.Resource != "pods" {
		return false
	}
	switch info.Subresource {
	case "exec", "attach", "portforward", "log", "proxy":
		return true
	}
	return false
}
