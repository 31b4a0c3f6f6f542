// Package registry is the generic store and the description of every resource.
package registry
