package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The kinds of failure of this package; test with errors.Is. Errors that are
// none of these come from etcd (unreachable, out of space) or from the codec.
var (
	// ErrExists: the key is taken.
	ErrExists = errors.New("object exists")
	// ErrNotFound: there is no object under the key.
	ErrNotFound = errors.New("object not found")
	// ErrConflict: a precondition does not hold.
	ErrConflict = errors.New("precondition failed")
	// ErrTooOld: the revision asked for is no longer kept (410 Expired).
	ErrTooOld = errors.New("resource version is too old")
	// ErrFutureRevision: the cache has not seen the revision asked for within 3 s (504 Timeout).
	ErrFutureRevision = errors.New("resource version is too large")
	// ErrInvalidOptions: a continue token or resource version that cannot be read (400).
	ErrInvalidOptions = errors.New("invalid options")
	// ErrNotReady: the cache has not been filled yet (429, try again).
	ErrNotReady = errors.New("storage is (re)initializing")
)

// FutureRevisionError is an ErrFutureRevision with its figures.
type FutureRevisionError struct{ Requested, Current int64 }

func (e *FutureRevisionError) Error() string {
	return fmt.Sprintf("Too large resource version: %d, current: %d", e.Requested, e.Current)
}

func (e *FutureRevisionError) Is(target error) bool { return target == ErrFutureRevision }

// CompactedContinueError is an ErrTooOld of a continue token. Continue is a
// token that resumes after the same key, but at the newest revision: the whole
// list is then no longer of one revision.
type CompactedContinueError struct{ Continue string }

func (e *CompactedContinueError) Error() string {
	return "The provided continue parameter is too old to display a consistent list result. You can start a new list without " +
		"the continue parameter, or use the continue token in this response to retrieve the remainder of the results. " +
		"Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted " +
		"between the time the first chunk was returned and now may show up in the list."
}

func (e *CompactedContinueError) Is(target error) bool { return target == ErrTooOld }

// TooOldError is an ErrTooOld with what the client is told.
type TooOldError struct{ Message string }

func (e *TooOldError) Error() string        { return e.Message }
func (e *TooOldError) Is(target error) bool { return target == ErrTooOld }

// InvalidOptionsError is an ErrInvalidOptions with what the client is told.
type InvalidOptionsError struct{ Message string }

func (e *InvalidOptionsError) Error() string        { return e.Message }
func (e *InvalidOptionsError) Is(target error) bool { return target == ErrInvalidOptions }

// InvalidVersionError is an ErrInvalidOptions about a resource version that is no number.
type InvalidVersionError struct {
	Field *field.Error
	// Watch: it was that of a watch, which is answered with 422; a list or a get with 400.
	Watch bool
}

func (e *InvalidVersionError) Error() string        { return "invalid resource version: " + e.Field.Error() }
func (e *InvalidVersionError) Is(target error) bool { return target == ErrInvalidOptions }

// StatusError turns an error of this package into the answer a client gets.
// Errors of other packages are returned as they are.
func StatusError(err error, resource schema.GroupResource, name string) error {
	var future *FutureRevisionError
	var compacted *CompactedContinueError
	var version *InvalidVersionError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrExists):
		return apierrors.NewAlreadyExists(resource, name)
	case errors.Is(err, ErrNotFound):
		return apierrors.NewNotFound(resource, name)
	case errors.Is(err, ErrConflict):
		return apierrors.NewConflict(resource, name, err)
	case errors.As(err, &compacted):
		expired := apierrors.NewResourceExpired(compacted.Error())
		expired.ErrStatus.Continue = compacted.Continue
		return expired
	case errors.Is(err, ErrTooOld):
		return apierrors.NewResourceExpired(err.Error())
	case errors.As(err, &future):
		timeout := apierrors.NewTimeoutError(future.Error(), 1)
		timeout.ErrStatus.Details.Causes = []metav1.StatusCause{{
			Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version",
		}}
		return timeout
	case errors.As(err, &version) && version.Watch:
		return apierrors.NewInvalid(schema.GroupKind{Group: resource.Group, Kind: resource.Resource}, name, field.ErrorList{version.Field})
	case errors.Is(err, ErrInvalidOptions):
		return apierrors.NewBadRequest(err.Error())
	case errors.Is(err, ErrNotReady):
		return apierrors.NewTooManyRequests(err.Error(), 1)
	case errors.Is(err, rpctypes.ErrRequestTooLarge), status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "larger than max"):
		return apierrors.NewRequestEntityTooLargeError(err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		// Upstream has another text for this, which no client sees: the request's own timeout answers first.
		return apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0)
	case status.Code(err) == codes.Unavailable:
		// No retry is suggested: a write may have happened.
		return apierrors.NewServiceUnavailable("etcd does not answer: " + err.Error())
	}
	return err
}
