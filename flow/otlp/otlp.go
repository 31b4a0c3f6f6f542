// Package otlp sends what is recorded to an OpenTelemetry collector, as spans, over OTLP/gRPC
// (`hyperkube apiserver --tracing-endpoint=localhost:4317`).
//
//	flow.Record ──Tap──► queue ──a second──► flow.Spans ──Export──► collector
//	                       └ full, or nobody there: dropped, counted, said
//
// In steps:
//
//  1. Take puts an entry of the record into the queue, if there is room. It never waits: the
//     requests of a cluster are not to be slower for want of a collector.
//  2. Each second Run makes spans of what is in the queue, and sends them.
//  3. What cannot be sent is dropped, not kept: the record has it still. The log says so when
//     that begins, and how much it was when it is over.
//
// Invariants: no value out of an object is sent, only names and figures (flow.Span). Nothing
// is read from the environment.
//
// Read first: Exporter.Run.
//
// # In Kubernetes
//
// k8s.io/component-base/tracing with --tracing-config-file, whose endpoint this is; as there, the
// connection is not encrypted: the collector is a neighbour. The SDK of OpenTelemetry is left out: it is made to
// measure what goes on, and here spans are made of what has been recorded, so that nothing but the protocol is needed.
// There is no sampling.
package otlp

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync/atomic"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/klog/v2"

	"hyperkube/flow"
)

const (
	// queueLength is how many entries wait for the next sending; a busy second has some thousand.
	queueLength = 1 << 14
	// pause lies between two sendings, and timeout is how long one may take; the last one, for which the apiserver's
	// stop waits, only lastTimeout.
	pause       = time.Second
	timeout     = 5 * time.Second
	lastTimeout = time.Second
	// maxBatch spans go into one message, so that it stays below a collector's limit of 4 MiB.
	maxBatch = 2000
)

// Exporter sends the entries of a record.
type Exporter struct {
	endpoint string
	conn     *grpc.ClientConn
	queue    chan flow.Entry
	dropped  atomic.Int64 // entries and spans
	pause    time.Duration
}

// New makes an exporter to endpoint, "HOST:PORT". It does not connect yet: the collector may come later.
func New(endpoint string) (*Exporter, error) {
	if _, _, err := net.SplitHostPort(endpoint); err != nil {
		return nil, fmt.Errorf("tracing endpoint %q: must be HOST:PORT of a collector that takes OTLP over gRPC, as localhost:4317", endpoint)
	}
	conn, err := grpc.NewClient("passthrough:///"+endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("tracing endpoint %q: %w", endpoint, err)
	}
	return &Exporter{endpoint: endpoint, conn: conn, queue: make(chan flow.Entry, queueLength), pause: pause}, nil
}

// Take is the tap of a record: it never waits.
func (e *Exporter) Take(entry flow.Entry) {
	select {
	case e.queue <- entry:
	default:
		e.dropped.Add(1)
	}
}

// Dropped is how many entries and spans have not been sent.
func (e *Exporter) Dropped() int64 { return e.dropped.Load() }

// Run sends until ctx ends, and then what is left.
func (e *Exporter) Run(ctx context.Context) {
	defer e.conn.Close()
	logger := klog.FromContext(ctx)
	spans := flow.NewSpans()
	ticker := time.NewTicker(e.pause)
	defer ticker.Stop()
	var waiting []flow.Entry
	failing := false
	for last := false; !last; {
		select {
		case <-ctx.Done():
			last = true
		case <-ticker.C:
		}
		// What waited once is not held back again: its cause is not of this record.
		found, still := spans.Of(e.drain(), last)
		late, _ := spans.Of(waiting, true)
		found, waiting = append(found, late...), still
		limit := timeout
		if last {
			limit = lastTimeout
		}
		sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
		err := e.send(sending, found)
		cancel()
		switch {
		case err != nil && !failing:
			logger.Info("Spans are dropped", "collector", e.endpoint, "err", err)
			failing = true
		case err == nil && failing && len(found) > 0:
			logger.Info("The collector takes spans again", "collector", e.endpoint, "dropped", e.Dropped())
			failing = false
		}
	}
}

// drain takes what is in the queue now.
func (e *Exporter) drain() []flow.Entry {
	var entries []flow.Entry
	for range len(e.queue) {
		entries = append(entries, <-e.queue)
	}
	return entries
}

// send exports spans in messages that are not too large; after the first failure it drops the rest.
func (e *Exporter) send(ctx context.Context, spans []flow.Span) error {
	client := collector.NewTraceServiceClient(e.conn)
	for batch := range slices.Chunk(spans, maxBatch) {
		if _, err := client.Export(ctx, message(batch)); err != nil {
			e.dropped.Add(int64(len(spans)))
			return err
		}
		spans = spans[len(batch):]
	}
	return nil
}

// message puts spans under their services.
func message(spans []flow.Span) *collector.ExportTraceServiceRequest {
	byService := map[string][]*trace.Span{}
	for i := range spans {
		byService[spans[i].Service] = append(byService[spans[i].Service], encode(&spans[i]))
	}
	request := &collector.ExportTraceServiceRequest{}
	for _, service := range slices.Sorted(maps.Keys(byService)) {
		request.ResourceSpans = append(request.ResourceSpans, &trace.ResourceSpans{
			Resource:   &resource.Resource{Attributes: attributes([]flow.Attribute{{Key: "service.name", Value: service}})},
			ScopeSpans: []*trace.ScopeSpans{{Scope: &common.InstrumentationScope{Name: "hyperkube/flow"}, Spans: byService[service]}},
		})
	}
	return request
}

// encode is a span in the protocol's form.
func encode(s *flow.Span) *trace.Span {
	span := &trace.Span{
		TraceId: bytesOf(s.TraceID), SpanId: bytesOf(s.SpanID), ParentSpanId: bytesOf(s.Parent), Name: s.Name, Kind: trace.Span_SPAN_KIND_INTERNAL,
		StartTimeUnixNano: uint64(s.Start.UnixNano()), EndTimeUnixNano: uint64(s.End.UnixNano()), Attributes: attributes(s.Attributes),
	}
	if s.Server {
		span.Kind = trace.Span_SPAN_KIND_SERVER
	}
	for _, link := range s.Links {
		span.Links = append(span.Links, &trace.Span_Link{TraceId: bytesOf(link.TraceID), SpanId: bytesOf(link.SpanID),
			Attributes: attributes([]flow.Attribute{{Key: "cause", Value: link.Cause}})})
	}
	if s.Error != "" {
		span.Status = &trace.Status{Code: trace.Status_STATUS_CODE_ERROR, Message: s.Error}
	}
	return span
}

// bytesOf reads an id; one that is none is left out.
func bytesOf(id string) []byte {
	data, err := hex.DecodeString(id)
	if err != nil {
		return nil
	}
	return data
}

func attributes(list []flow.Attribute) []*common.KeyValue {
	var all []*common.KeyValue
	for _, a := range list {
		value := &common.AnyValue{}
		switch v := a.Value.(type) {
		case int64:
			value.Value = &common.AnyValue_IntValue{IntValue: v}
		default:
			value.Value = &common.AnyValue_StringValue{StringValue: fmt.Sprint(v)}
		}
		all = append(all, &common.KeyValue{Key: a.Key, Value: value})
	}
	return all
}
