package token

import (
	"encoding/pem"
	"testing"
)

func TestParseKeys(t *testing.T) {
	for name, data := range map[string]string{
		"empty": "", "not a key": string(pem.EncodeToMemory(&pem.Block{Type: "MESSAGE"})),
		"damaged": string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte("x")})),
	} {
		if _, err := ParseKeys([]byte(data)); err == nil {
			t.Errorf("%s: was accepted", name)
		}
	}
}
