package apiserver

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A handler that fails is answered with a Status, like all that goes wrong.
func TestPanicIsAnswered(t *testing.T) {
	s := &Server{}
	w := httptest.NewRecorder()
	handler := s.withPanicRecovery(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("x") }))
	handler.ServeHTTP(w, httptest.NewRequest("PATCH", "/api/v1/namespaces/m", nil))
	if w.Code != 500 || !strings.Contains(w.Body.String(), `"reason":"InternalError"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
