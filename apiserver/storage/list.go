package storage

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// listPlan says what a list reads.
type listPlan struct {
	match    listMatch
	revision int64  // of notOlderThan and exact
	start    string // first key to return; "" = the first there is
	limit    int64  // 0 = none
}

// listMatch is how new the answer must be; the names are those of
// https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list.
type listMatch string

const (
	mostRecent   listMatch = "MostRecent"
	anyRevision  listMatch = "Any"
	notOlderThan listMatch = "NotOlderThan"
	exact        listMatch = "Exact"
)

// List implements Interface.
func (r *resource) List(ctx context.Context, prefix string, opts ListOptions) (*List, error) {
	plan, err := planList(prefix, opts)
	if err != nil {
		return nil, err
	}
	objects, revision, err := r.readList(ctx, prefix, plan, opts.Predicate)
	if err != nil {
		return nil, err
	}
	list := cut(objects, plan, opts.Predicate)
	list.ResourceVersion = revision
	if list.Continue != "" {
		r.cache.keep(revision)
		list.Continue = encodeContinue(prefix, list.Continue, revision)
	}
	return list, nil
}

// planList decides by the table of the API concepts page.
func planList(prefix string, opts ListOptions) (listPlan, error) {
	plan := listPlan{match: mostRecent, limit: max(opts.Limit, 0)}
	revision, err := parseResourceVersion(opts.ResourceVersion)
	if err != nil {
		return plan, err
	}
	plan.revision = revision
	if opts.Continue != "" {
		if plan.start, plan.revision, err = decodeContinue(prefix, opts.Continue); err != nil {
			return plan, err
		}
		if revision != 0 || opts.ResourceVersionMatch != "" {
			return plan, &InvalidOptionsError{Message: "specifying resource version is not allowed when using continue"}
		}
		if plan.revision > 0 {
			plan.match = exact
		} // else an inconsistent continue: the rest, as it is now
		return plan, nil
	}
	unset, zero := opts.ResourceVersion == "", opts.ResourceVersion != "" && revision == 0
	switch opts.ResourceVersionMatch {
	case metav1.ResourceVersionMatchExact:
		if revision == 0 {
			return plan, fmt.Errorf("%w: resourceVersionMatch Exact needs a resourceVersion other than 0", ErrInvalidOptions)
		}
		plan.match = exact
	case metav1.ResourceVersionMatchNotOlderThan:
		if unset {
			return plan, fmt.Errorf("%w: resourceVersionMatch NotOlderThan needs a resourceVersion", ErrInvalidOptions)
		}
		plan.match = notOlderThan
	case "":
		switch {
		case unset:
		case plan.limit > 0 && !zero:
			plan.match = exact
		default:
			plan.match = notOlderThan
		}
	default:
		return plan, fmt.Errorf("%w: resourceVersionMatch %q", ErrInvalidOptions, opts.ResourceVersionMatch)
	}
	if plan.match == notOlderThan && zero {
		// As upstream's cache does: informers ask so, and are best served in one piece.
		plan.match, plan.limit = anyRevision, 0
	}
	return plan, nil
}

// readList reads the objects of a plan, and the revision they are the state of.
func (r *resource) readList(ctx context.Context, prefix string, plan listPlan, p Predicate) ([]*Object, int64, error) {
	wait := ""
	if plan.match != mostRecent {
		wait = fmt.Sprint(plan.revision)
	}
	if err := r.waitFor(ctx, wait); err != nil {
		return nil, 0, err
	}
	if plan.match != exact {
		return r.cache.list(prefix, p)
	}
	if objects, ok := r.cache.at(plan.revision, prefix); ok {
		return objects, plan.revision, nil
	}
	objects, _, err := r.listEtcd(ctx, prefix, plan.revision)
	if errors.Is(err, rpctypes.ErrCompacted) {
		if plan.start != "" {
			return nil, 0, &CompactedContinueError{Continue: encodeContinue(prefix, plan.start, -1)}
		}
		return nil, 0, &TooOldError{"The resourceVersion for the provided list is too old."}
	}
	return objects, plan.revision, err
}

// cut takes the page of a plan out of objects. Continue is then the key the
// next page starts with.
func cut(objects []*Object, plan listPlan, p Predicate) *List {
	list := &List{}
	everything := p.Empty()
	if everything && plan.limit == 0 && plan.start == "" {
		list.Items = objects
		return list
	}
	var remaining int64
	for _, o := range objects {
		if o.Key < plan.start || !everything && !p.Matches(o) {
			continue
		}
		if plan.limit == 0 || int64(len(list.Items)) < plan.limit {
			list.Items = append(list.Items, o)
			continue
		}
		if remaining++; !everything {
			break // with a selector the count is not given, as counting is not free
		}
	}
	if remaining > 0 {
		list.Continue = list.Items[len(list.Items)-1].Key + "\x00"
		if everything {
			list.RemainingItemCount = &remaining
		}
	}
	return list
}

// continueToken is upstream's: clients must not look into it, people may.
type continueToken struct {
	APIVersion      string `json:"v"`
	ResourceVersion int64  `json:"rv"`
	StartKey        string `json:"start"`
}

const continueVersion = "meta.k8s.io/v1"

// encodeContinue makes a token for the page that starts with key. Revision -1
// makes one for whatever is then the newest.
func encodeContinue(prefix, key string, revision int64) string {
	data, err := json.Marshal(continueToken{continueVersion, revision, strings.TrimPrefix(key, prefix)})
	if err != nil {
		panic("storage: a continue token that cannot be encoded: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

// decodeContinue returns the key and revision of a token; the revision is 0 for
// one without.
func decodeContinue(prefix, token string) (key string, revision int64, err error) {
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(token, "="))
	var c continueToken
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	wrong := ""
	switch {
	case err != nil:
		wrong = ": " + err.Error()
	case c.APIVersion != continueVersion:
		wrong = ": server does not recognize this encoded version " + c.APIVersion
	case c.ResourceVersion == 0:
		wrong = ": incorrect encoded start resourceVersion (version meta.k8s.io/v1)"
	case c.StartKey == "":
		wrong = ": encoded start key empty (version meta.k8s.io/v1)"
	case path.Clean("/"+strings.TrimPrefix(c.StartKey, "/")) != "/"+strings.TrimPrefix(c.StartKey, "/"):
		wrong = ": " + c.StartKey // it would lead out of the collection
	default:
		return prefix + strings.TrimPrefix(c.StartKey, "/"), max(c.ResourceVersion, 0), nil
	}
	return "", 0, &InvalidOptionsError{Message: "invalid continue token: continue key is not valid" + wrong}
}
