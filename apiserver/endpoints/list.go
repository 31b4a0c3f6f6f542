package endpoints

import (
	"encoding/json"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/storage"
)

// ListResource answers GET of a collection; with ?watch=1 it goes on as a watch.
//
// A list is a concatenation: the items' bytes exist already (storage.Object), so
// that a list of 5,000 pods encodes nothing but its own head.
func ListResource(s *Scope, w http.ResponseWriter, r *http.Request) error {
	options, err := listOptions(r)
	if err != nil {
		return err
	}
	namespace, name := s.target(r)
	predicate, err := s.predicate(options, name)
	if err != nil {
		return err
	}
	if options.Watch {
		return watchResource(s, w, r, options, predicate)
	}
	f, err := negotiate(r, "Table", "PartialObjectMetadataList", "PartialObjectMetadata")
	if err != nil {
		return err
	}
	list, err := s.list(r, namespace, storage.ListOptions{
		ResourceVersion: options.ResourceVersion, ResourceVersionMatch: options.ResourceVersionMatch,
		Predicate: predicate, Limit: options.Limit, Continue: options.Continue,
	})
	if err != nil {
		return err
	}
	return s.writeList(w, r, f, list)
}

func (s *Scope) writeList(w http.ResponseWriter, r *http.Request, f form, list *storage.List) error {
	switch {
	case f.as == "Table":
		return s.writeTable(w, r, f, list)
	case f.as == "PartialObjectMetadata":
		return wrongView(f.as, "a list", s.listKind())
	case f.as != "":
		return s.writePartialList(w, r, f, list)
	case f.media == mediaProtobuf:
		return s.writeProtobufList(w, r, f, list)
	case f.media == mediaCBOR:
		return s.writeCBORList(w, r, f, list)
	case f.media == mediaJSON && !f.pretty:
		return s.streamJSONList(newBody(w, r, f.contentType(), http.StatusOK), list)
	}
	// Indented and YAML lists are for people: made whole, then reshaped.
	var whole buffer
	if err := s.streamJSONList(&whole, list); err != nil {
		return err
	}
	return writeBytes(w, r, f, http.StatusOK, whole.data[:len(whole.data)-1])
}

// sink takes a list as it is made; Close is called when it is whole.
type sink interface {
	Write([]byte) (int, error)
	Close()
}

type buffer struct{ data []byte }

func (b *buffer) Write(p []byte) (int, error) { b.data = append(b.data, p...); return len(p), nil }
func (b *buffer) Close()                      {}

func (s *Scope) listKind() schema.GroupVersionKind {
	kind := s.Resource.Kind
	kind.Kind += "List"
	return kind
}

func listMeta(list *storage.List) metav1.ListMeta {
	return metav1.ListMeta{
		ResourceVersion: versionText(list.ResourceVersion),
		Continue:        list.Continue, RemainingItemCount: list.RemainingItemCount,
	}
}

// chunkSize is how much of a list is written at once: each write waits for the goroutine of the HTTP/2
// connection, which cuts it into frames.
const chunkSize = 64 << 10

// streamJSONList writes items as it goes: no answer is ever whole in memory.
func (s *Scope) streamJSONList(out sink, list *storage.List) error {
	head, err := json.Marshal(listMeta(list))
	if err != nil {
		return err
	}
	chunk := append([]byte("{"), jsonHead(s.listKind())...)
	chunk = append(append(append(chunk, `"metadata":`...), head...), `,"items":[`...)
	for i, item := range list.Items {
		if i > 0 {
			chunk = append(chunk, ',')
		}
		if chunk, err = s.appendStored(chunk, item, form{media: mediaJSON}, false); err != nil {
			return err
		}
		if len(chunk) >= chunkSize {
			if _, err := out.Write(chunk); err != nil {
				return nil // the client has gone
			}
			chunk = chunk[:0]
		}
	}
	if _, err := out.Write(append(chunk, "]}\n"...)); err != nil {
		return nil
	}
	out.Close()
	return nil
}

// writeProtobufList: every list message of the API has its ListMeta as field 1 and its items as field 2.
func (s *Scope) writeProtobufList(w http.ResponseWriter, r *http.Request, f form, list *storage.List) error {
	head := listMeta(list)
	metadata, err := head.Marshal()
	if err != nil {
		return err
	}
	items := make([][]byte, len(list.Items))
	size := fieldSize(len(metadata))
	for i, item := range list.Items {
		if items[i], err = s.protobufBody(item); err != nil {
			return err
		}
		size += fieldSize(len(items[i]))
	}
	out := newBody(w, r, f.contentType(), http.StatusOK)
	chunk := appendEnvelopeHead(append([]byte(nil), protobufMagic...), s.listKind())
	chunk = append(chunk, 2<<3|2)
	chunk = appendUvarint(chunk, size)
	chunk = appendField(chunk, 1, metadata)
	for _, item := range items {
		chunk = append(chunk, 2<<3|2)
		chunk = append(appendUvarint(chunk, len(item)), item...)
		if len(chunk) >= chunkSize {
			if _, err := out.Write(chunk); err != nil {
				return nil // the client has gone
			}
			chunk = chunk[:0]
		}
	}
	if _, err := out.Write(append(chunk, 3<<3|2, 0, 4<<3|2, 0)); err != nil {
		return nil
	}
	out.Close()
	return nil
}

func (s *Scope) writePartialList(w http.ResponseWriter, r *http.Request, f form, list *storage.List) error {
	partial := &metav1.PartialObjectMetadataList{ListMeta: listMeta(list)}
	for _, item := range list.Items {
		p, err := partialMetadata(s.toServed(item.Object), f)
		if err != nil {
			return err
		}
		partial.Items = append(partial.Items, *p)
	}
	return writeAny(w, r, f, http.StatusOK, ofKind(partial, f.metaKind("PartialObjectMetadataList")))
}
