package network

import (
	"crypto/sha256"
	"fmt"
)

// BridgeName is that of the bridge which a node's pods are connected by, unless Config names another.
func BridgeName(dataDir string) string { return "hk" + short(dataDir) }

// short is a name's fingerprint, for what has room for few letters.
func short(name string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(name)))[:6] }
