package apiserver

import (
	"bytes"
	"fmt"
	"net/http"
	"regexp"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkRequests is what each kind of request costs in CPU, from the handler to etcd's disk and back, without a
// network. Sixteen at a time, as `make bench` has them: then etcd and its log serve several together.
func BenchmarkRequests(b *testing.B) {
	for _, w := range writes {
		b.Run("create "+w.resource, func(b *testing.B) {
			d := startDirect(b, 0)
			each(b, func(i int64) { d.post(w.resource, w.object(fmt.Sprint("object-", i))) })
		})
	}
	const objects = 500
	version := regexp.MustCompile(`"resourceVersion":"\d+",`)
	for name, request := range map[string]func(d *direct, i int64, pod string, body []byte){
		"GET": func(d *direct, _ int64, pod string, _ []byte) { d.do(http.MethodGet, pod, nil) },
		"PUT": func(d *direct, i int64, pod string, body []byte) {
			d.do(http.MethodPut, pod, bytes.Replace(body, []byte(`"uid"`), fmt.Appendf(nil, `"annotations":{"update":"%d"},"uid"`, i), 1))
		},
		"PATCH": func(d *direct, i int64, pod string, _ []byte) {
			d.do(http.MethodPatch, pod, fmt.Appendf(nil, `{"metadata":{"annotations":{"update":"%d"}}}`, i))
		},
		"PATCH status": func(d *direct, i int64, pod string, _ []byte) {
			d.do(http.MethodPatch, pod+"/status", fmt.Appendf(nil, `{"status":{"message":"%d"}}`, i))
		},
	} {
		b.Run(name, func(b *testing.B) {
			d := startDirect(b, 0)
			var bodies [objects][]byte
			for i := range bodies {
				pod := fmt.Sprint("object-", i)
				d.post(writes[1].resource, writes[1].object(pod))
				// Without its version, so that it can be sent again and again.
				bodies[i] = version.ReplaceAll(d.do(http.MethodGet, "pods/"+pod, nil), nil)
			}
			each(b, func(i int64) { request(d, i, fmt.Sprint("pods/object-", i%objects), bodies[i%objects]) })
		})
	}
}

// each does it for one number after the other, and reports the CPU that the process took.
func each(b *testing.B, do func(i int64)) {
	b.ReportAllocs()
	b.SetParallelism(8)
	var next atomic.Int64
	before := processCPU()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			do(next.Add(1))
		}
	})
	b.ReportMetric(float64((processCPU()-before).Microseconds())/float64(b.N), "µs-cpu/op")
}

func processCPU() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
