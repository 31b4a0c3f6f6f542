// Package storage keeps API objects in etcd and serves them from a watch cache.
package storage
