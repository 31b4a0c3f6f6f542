package page

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// newServer is a page in front of an apiserver that notes what it is asked.
func newServer(t *testing.T) (s *Server, asked *[]string) {
	t.Helper()
	asked = &[]string{}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.Method+" "+r.URL.RequestURI())
		w.Write([]byte(`{"gates":[]}`))
	}))
	t.Cleanup(api.Close)
	set, err := kubernetes.NewForConfig(&rest.Config{Host: api.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	code := "package a\n\n// f does it.\nfunc f() {\n\tg()\n}\n\nfunc g() {}\n"
	s, err = New(Config{Listener: listener, Token: NewToken(), Client: set, Cluster: "test",
		Source:     func() (map[string][]byte, error) { return map[string][]byte{"a/a.go": []byte(code)}, nil },
		Components: func(context.Context) []Component { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	return s, asked
}

// as makes a request as the page itself makes it.
func (s *Server) as(method, path string) *http.Request {
	r := httptest.NewRequest(method, s.Address()+path, nil)
	r.AddCookie(&http.Cookie{Name: s.cookie(), Value: s.config.Token})
	r.Header.Set(requestHeader, "1")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

func (s *Server) ask(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

// Only the page itself is answered: each of these requests differs from its own in one thing,
// by which an attacker's is known, and none of them reaches the apiserver.
func TestGuard(t *testing.T) {
	s, asked := newServer(t)
	for _, test := range []struct {
		name, method string
		spoil        func(*http.Request)
		want         int
	}{
		{"the page reads", "GET", func(*http.Request) {}, http.StatusOK},
		{"the page steps", "POST", func(*http.Request) {}, http.StatusOK},
		{"under the name localhost", "GET", func(r *http.Request) { r.Host = strings.Replace(r.Host, "127.0.0.1", "localhost", 1) }, http.StatusOK},
		{"another name that leads here", "GET", func(r *http.Request) { r.Host = strings.Replace(r.Host, "127.0.0.1", "evil.example", 1) }, http.StatusMisdirectedRequest},
		{"another port", "GET", func(r *http.Request) { r.Host = "127.0.0.1:1" }, http.StatusMisdirectedRequest},
		{"no port", "GET", func(r *http.Request) { r.Host = "127.0.0.1" }, http.StatusMisdirectedRequest},
		{"no cookie", "GET", func(r *http.Request) { r.Header.Del("Cookie") }, http.StatusUnauthorized},
		{"a wrong cookie", "GET", func(r *http.Request) { r.Header.Set("Cookie", s.cookie()+"="+NewToken()) }, http.StatusUnauthorized},
		{"the token elsewhere in the address", "GET", func(r *http.Request) {
			r.Header.Del("Cookie")
			r.URL.RawQuery = "token=" + s.config.Token
		}, http.StatusUnauthorized},
		{"a page of another site", "GET", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, http.StatusForbidden},
		{"a page on another port of this host", "GET", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, http.StatusForbidden},
		{"a foreign origin", "POST", func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") }, http.StatusForbidden},
		{"the origin of a sandbox", "POST", func(r *http.Request) { r.Header.Set("Origin", "null") }, http.StatusForbidden},
		{"a form of another page", "POST", func(r *http.Request) { r.Header.Del(requestHeader) }, http.StatusForbidden},
	} {
		*asked = nil
		r := s.as(test.method, "/api/gates?component=scheduler")
		test.spoil(r)
		w := s.ask(r)
		if w.Code != test.want || (len(*asked) > 0) != (test.want == http.StatusOK) {
			t.Errorf("%s: %d, want %d; the apiserver was asked %q", test.name, w.Code, test.want, *asked)
		}
		if allowed := w.Header().Get("Access-Control-Allow-Origin"); allowed != "" {
			t.Errorf("%s: other origins are allowed: %s", test.name, allowed)
		}
	}
}

// The link's token becomes a cookie that scripts and other sites do not get, and leaves the address.
func TestLink(t *testing.T) {
	s, _ := newServer(t)
	link := func(token string) *http.Response {
		r := httptest.NewRequest("GET", s.Address()+"/?token="+token, nil)
		r.Header.Set("Sec-Fetch-Site", "cross-site") // somebody follows it out of a chat
		return s.ask(r).Result()
	}
	good := link(s.config.Token)
	cookies := good.Cookies()
	if good.StatusCode != http.StatusSeeOther || good.Header.Get("Location") != "/" || len(cookies) != 1 {
		t.Fatalf("%s to %q with %d cookies", good.Status, good.Header.Get("Location"), len(cookies))
	}
	if c := cookies[0]; !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Value != s.config.Token || c.Name != s.cookie() {
		t.Errorf("cookie %+v", c)
	}
	if bad := link(NewToken()); bad.StatusCode != http.StatusUnauthorized || len(bad.Cookies()) != 0 {
		t.Errorf("a wrong token: %s, %d cookies", bad.Status, len(bad.Cookies()))
	}
	if a, b := NewToken(), NewToken(); a == b || len(a) != tokenLength {
		t.Errorf("tokens %q and %q", a, b)
	}
}

// The browser is told to run nothing from elsewhere and to show the page in no other one; and the
// page keeps to it: it has no script or style but in files.
func TestForbidden(t *testing.T) {
	s, _ := newServer(t)
	w := s.ask(s.as("GET", "/"))
	for name, want := range map[string]string{
		"Content-Security-Policy": "default-src 'self'", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
	} {
		if got := w.Header().Get(name); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q", name, got)
		}
	}
	policy := w.Header().Get("Content-Security-Policy")
	if !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
	page := w.Body.String()
	for _, inline := range []string{"<script>", "<style", " style=", " onclick=", "http://", "https://"} {
		if strings.Contains(page, inline) {
			t.Errorf("index.html contains %q", inline)
		}
	}
	if s.ask(s.as("GET", "/page.js")).Code != http.StatusOK {
		t.Error("page.js is not served")
	}
}

// Nothing of the apiserver can be reached but what the page needs.
func TestOnlyItsOwnPaths(t *testing.T) {
	s, asked := newServer(t)
	for _, path := range []string{"/api/v1/secrets", "/api/../api/v1/secrets", "/api/effects", "/api/gates/../../../api/v1/secrets", "/apis/apps/v1"} {
		if w := s.ask(s.as("GET", path)); w.Code == http.StatusOK || len(*asked) > 0 {
			t.Errorf("%s: %d, and the apiserver was asked %q", path, w.Code, *asked)
		}
	}
	s.ask(s.as("POST", "/api/gates/one?component=scheduler&evil=1"))
	if len(*asked) != 1 || (*asked)[0] != "POST /debug/flow/gates/one?component=scheduler" {
		t.Errorf("asked %q, want the known parameter alone", *asked)
	}
}

// It listens on loopback only, and wants a whole token.
func TestConfig(t *testing.T) {
	everywhere, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer everywhere.Close()
	if _, err := New(Config{Listener: everywhere, Token: NewToken()}); err == nil {
		t.Error("serves on all addresses")
	}
	loopback, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer loopback.Close()
	if _, err := New(Config{Listener: loopback, Token: "short"}); err == nil {
		t.Error("takes a short token")
	}
}

// A line of code comes with the declaration around it, and only from the source.
func TestSource(t *testing.T) {
	s, _ := newServer(t)
	w := s.ask(s.as("GET", "/api/source?file=a/a.go&line=5"))
	if want := `{"file":"a/a.go","first":3,"marked":5,"lines":["// f does it.","func f() {","\tg()","}"]}`; w.Body.String() != want {
		t.Errorf("got %s", w.Body.String())
	}
	for _, query := range []string{"file=a/a.go&line=99", "file=../../etc/passwd&line=1", "file=a/a.go"} {
		if w := s.ask(s.as("GET", "/api/source?"+query)); w.Code == http.StatusOK {
			t.Errorf("%s: %s", query, w.Body.String())
		}
	}
}
