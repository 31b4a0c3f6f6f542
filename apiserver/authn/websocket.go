package authn

import (
	"encoding/base64"
	"net/http"
	"strings"
)

// takeWebSocketToken returns the token that is hidden among the subprotocols of a WebSocket
// upgrade, and removes it. It must not be the only one offered: the server would have to answer
// with a subprotocol, and that would send the token back.
func takeWebSocketToken(r *http.Request) (string, bool) {
	const header = "Sec-WebSocket-Protocol"
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return "", false
	}
	token, rest := "", []string(nil)
	for _, line := range r.Header.Values(header) {
		for _, protocol := range strings.Split(line, ",") {
			protocol = strings.TrimSpace(protocol)
			encoded, is := strings.CutPrefix(protocol, websocketTokenPrefix)
			if !is {
				rest = append(rest, protocol)
				continue
			}
			decoded, err := base64.RawURLEncoding.DecodeString(encoded)
			if err != nil || len(decoded) == 0 || token != "" {
				return "", false
			}
			token = string(decoded)
		}
	}
	if token == "" || len(rest) == 0 {
		return "", false
	}
	r.Header.Set(header, strings.Join(rest, ","))
	return token, true
}
