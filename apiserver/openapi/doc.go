// Package openapi serves what the API looks like.
package openapi
