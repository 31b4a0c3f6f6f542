package flow

import (
	"encoding/binary"
	"encoding/hex"
	"hash/fnv"
	"strings"
)

// TraceParentHeader is the header of W3C Trace Context: VERSION-TRACEID-SPANID-FLAGS.
const TraceParentHeader = "Traceparent"

const traceParentLength = 55

// traceParent returns the header if it is what the standard wants, else "": a header that
// cannot be read is to be ignored.
func traceParent(header string) string {
	if len(header) < traceParentLength || header[:2] == "ff" || header[:2] == "00" && len(header) > traceParentLength {
		return ""
	}
	header = header[:traceParentLength]
	for i := range len(header) {
		c := header[i]
		separator := i == 2 || i == 35 || i == 52
		if separator != (c == '-') || !separator && !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return ""
		}
	}
	if strings.Trim(header[3:35], "0") == "" || strings.Trim(header[36:52], "0") == "" {
		return ""
	}
	return header
}

// TraceID is a W3C trace id, 32 hexadecimal digits: that of the traceparent with which a
// request came, else its audit id, which has the same 128 bits. An audit id of another form
// is hashed.
func TraceID(parent, auditID string) string {
	if parent = traceParent(parent); parent != "" {
		return parent[3:35]
	}
	id := strings.ToLower(strings.ReplaceAll(auditID, "-", ""))
	if _, err := hex.DecodeString(id); err == nil && len(id) == 32 {
		return id
	}
	if auditID == "" {
		return ""
	}
	hash := fnv.New128a()
	hash.Write([]byte(auditID))
	return hex.EncodeToString(hash.Sum(nil))
}

// traceID is the trace that the request belongs to.
func (q *Request) traceID() string { return TraceID(q.TraceParent, q.AuditID) }

// spanID is the request's own span within it. It is computed when somebody asks.
func (q *Request) spanID() string { return spanOf(q.AuditID, q.Start.UnixNano()) }

func (e *Effect) traceID() string { return TraceID(e.TraceParent, "") }
func (e *Effect) spanID() string  { return spanOf(e.Component+e.What+e.Detail, e.Time.UnixNano()) }

func spanOf(text string, nanos int64) string {
	hash := fnv.New64a()
	hash.Write([]byte(text))
	hash.Write(binary.BigEndian.AppendUint64(nil, uint64(nanos)))
	return hex.EncodeToString(hash.Sum(nil))
}
