package page

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
)

// tokenLength is that of 128 bits in hexadecimal.
const tokenLength = 32

// NewToken makes a token.
func NewToken() string {
	var bits [tokenLength / 2]byte
	_, _ = rand.Read(bits[:]) // it never fails: it ends the process instead
	return hex.EncodeToString(bits[:])
}

// requestHeader must be on every request that changes something. A page of another site can
// make a browser send a form here, but no header of its own, unless we allowed it to (CORS).
const requestHeader = "Hyperkube-Page"

// guard decides who is answered:
//
//  1. only requests to this very address: a name that somebody's DNS leads here is no address of ours;
//  2. none that a page of another site makes, as the browser tells;
//  3. a request with the token in its address gets the cookie, and is sent on without it;
//  4. all others need the cookie, and those that change something a header of their own.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		forbid(w.Header())
		token := r.URL.Query().Get("token")
		switch {
		// Step 1: only requests to this very address.
		case !s.isOurs(r.Host):
			http.Error(w, "this is "+s.Address()+", and answers under no other name", http.StatusMisdirectedRequest)
		// Step 2: none that a page of another site makes. To follow the link from somewhere is all right.
		case !s.sameSite(r) && token == "":
			http.Error(w, "refused: asked by a page of another site", http.StatusForbidden)
		// Step 3: a request with the token gets the cookie.
		case token != "" && r.URL.Path == "/" && r.Method == http.MethodGet:
			s.letIn(w, r, token)
		// Step 4: all others need the cookie, and some a header.
		case !s.knows(r):
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, strangerPage)
		case r.Method != http.MethodGet && r.Method != http.MethodHead && r.Header.Get(requestHeader) == "":
			http.Error(w, "refused: the header "+requestHeader+" is missing", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// forbid tells the browser what this page never does: run or load anything from elsewhere, be
// shown inside another page, tell others its address, be kept.
func forbid(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// isOurs tells our own address, as browsers write it, from names that lead to it.
func (s *Server) isOurs(host string) bool {
	port := ":" + strconv.Itoa(s.port)
	return host == "127.0.0.1"+port || host == "localhost"+port || host == "[::1]"+port
}

// sameSite believes what browsers say about who asks; clients that say nothing are no browsers.
func (s *Server) sameSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		return false
	}
	origin := r.Header.Get("Origin")
	return origin == "" || origin == "http://"+r.Host
}

// letIn gives the cookie for the token, and takes the token out of the address bar, the history
// and whatever is copied from there.
func (s *Server) letIn(w http.ResponseWriter, r *http.Request, token string) {
	if !s.isToken(token) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, strangerPage)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: s.cookie(), Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// cookie is its name: cookies know hosts but no ports, and there may be a second cluster.
func (s *Server) cookie() string { return "hyperkube-page-" + strconv.Itoa(s.port) }

func (s *Server) knows(r *http.Request) bool {
	cookie, err := r.Cookie(s.cookie())
	return err == nil && s.isToken(cookie.Value)
}

// isToken takes the same time whatever is wrong.
func (s *Server) isToken(token string) bool {
	return subtle.ConstantTimeCompare([]byte(token), []byte(s.config.Token)) == 1
}

const strangerPage = `<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>hyperkube</title>
<h1>hyperkube</h1>
<p>Open the link that <code>hyperkube page --url</code> prints: it has the token that this page needs.</p>
<p lang="ja"><code>hyperkube page --url</code> が表示するリンクを開いてください。このページに必要なトークンが含まれています。</p>
`
