// Package openapi knows what the API looks like: the schema of every type, which is
// served as /openapi/v2 and /openapi/v3, and by which managed fields find list types and merge keys.
//
//	k8s.io/api's Go types ──openapi-gen (make generate)──► definitions.json.gz
//	                                                            │ embedded
//	routes of the API ──► documents (on demand) ◄───────────────┤
//	                                                            └──► TypeConverter (server-side apply)
//
// gen/ makes definitions.json.gz: `go run ./apiserver/openapi/gen`. It is run again when the k8s.io modules
// change.
//
// In Kubernetes: pkg/generated/openapi/zz_generated.openapi.go (the same definitions as 70,000 lines of Go, which cost 10 MiB
// of binary), and the routes/openapi.go of k8s.io/apiserver. There all documents are made at start; here nobody pays who does
// not ask.
package openapi
