// Package clients holds the apiserver to what clients of Kubernetes rely on: client-go's typed, dynamic and metadata
// clients, informers, and kubectl.
package clients
