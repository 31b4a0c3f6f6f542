// Package apiserver is the REST and watch API over etcd.
package apiserver
