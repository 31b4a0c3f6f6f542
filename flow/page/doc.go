// Package page is the live page: a cluster that can be looked at while it works. It is a
// small web server on loopback, with a page of plain HTML, CSS and JavaScript modules that
// lie in assets/ and are in the binary.
//
//	browser ◄── HTML, CSS, modules ── Server ◄── assets/ (embedded)
//	   │  cookie, from the link's token │
//	   ├── GET  /api/stream ────────────┤──► apiserver /debug/flow/stream    arrows as they happen
//	   ├── GET  /api/entry, trace ──────┤──► apiserver /debug/flow/…         diff, causes, who was told
//	   ├── POST /api/gates/… ───────────┤──► apiserver /debug/flow/gates     step, one, continue
//	   ├── GET  /api/objects ───────────┤──► apiserver /api, /apis           trees of objects and rules
//	   ├── GET  /api/source ────────────┤──► Config.Source                   the binary's own code
//	   └── GET  /api/components ────────┘──► Config.Components               who runs, and how it is
//
// In steps: somebody opens the link that `hyperkube all` prints; the server takes the token
// out of the address and gives a cookie for it; the page asks for the stream, and draws each
// arrow that comes; a click asks for one entry, and for its line of code. While no page is
// open the server does nothing at all.
//
// Nouns: an arrow is one thing that happened (`flow/stream.go:Arrow`). A tree is an object
// with what it owns, or a Service with what it leads to. The token is 128 random bits, made
// anew with each life of the server.
//
// Invariants: who has not the token gets nothing but a page that says so. Only requests
// whose Host is this loopback address are answered, so that a name which somebody points
// at 127.0.0.1 (DNS rebinding) opens nothing. Whatever changes something needs a header
// that no other site's page can send. The page runs no script that does not lie in
// assets/, and the browser is told so. The server offers the paths above and no others
// of the apiserver. It asks for no Secret and no ConfigMap, and what the record tells of
// Secrets has no values. This package knows no component.
//
// Read first: `flow/page/page.go:Server`, `flow/page/guard.go:Server.guard`,
// `flow/page/assets/page.js`.
//
// # In Kubernetes
//
// Nothing has this job. The Dashboard (kubernetes/dashboard) and Headlamp show objects as
// they are; this shows how they came to be so. Left out: users and their rights: the page
// acts as cluster-admin, for who may read the data directory.
package page
