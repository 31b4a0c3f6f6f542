// Package etcd runs etcd inside this process.
package etcd
