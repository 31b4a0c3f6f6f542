package request

import "slices"

// Names that authentication, authorization and bootstrap policy share.
const (
	Anonymous            = "system:anonymous"
	APIServerUser        = "system:apiserver"
	AllAuthenticated     = "system:authenticated"
	AllUnauthenticated   = "system:unauthenticated"
	SystemPrivileged     = "system:masters"
	NodesGroup           = "system:nodes"
	NodeUserPrefix       = "system:node:"
	ServiceAccountPrefix = "system:serviceaccount:"
	ServiceAccountsGroup = "system:serviceaccounts"
)

// User is who asks.
type User struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
	// Authn says how this is known ("client certificate, CN=…"), for the record; nothing is decided by it.
	Authn string
}

// InGroup says whether u belongs to group; a nil user belongs to none.
func (u *User) InGroup(group string) bool {
	return u != nil && slices.Contains(u.Groups, group)
}

// APIServer is the user of the apiserver's own writes: bootstrap objects,
// allocations, endpoints of the kubernetes Service. It may do anything.
func APIServer() *User {
	return &User{Name: APIServerUser, Groups: []string{SystemPrivileged, AllAuthenticated}, Authn: "the apiserver itself"}
}
