package apiserver

import "net/http"

// stackRoom is what most requests need of stack: with it, the stack becomes one of 32 KiB. Measured against 13 KiB,
// a GET costs 0.129 ms of CPU instead of 0.137; of creates no difference could be seen.
const stackRoom = 28 << 10

// withRoom makes room on the stack for all the calls to come. HTTP/2 runs each request in a
// new goroutine, whose stack begins at a few KiB and would be copied, every frame of it looked up
// and adjusted, each time it is too small.
func withRoom(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		growStack(len(r.Method))
		next.ServeHTTP(w, r)
	})
}

// growStack needs a frame of stackRoom bytes, and nothing else.
//
//go:noinline
func growStack(i int) byte {
	var room [stackRoom]byte
	return room[i]
}
