package container

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Why a container waits, as status.containerStatuses[].state.waiting.reason
// spells it. kubectl prints these words in its STATUS column.
var (
	ErrCrashLoopBackOff      = errors.New("CrashLoopBackOff")
	ErrImagePull             = errors.New("ErrImagePull")
	ErrImagePullBackOff      = errors.New("ImagePullBackOff")
	ErrImageNeverPull        = errors.New("ErrImageNeverPull")
	ErrInvalidImageName      = errors.New("InvalidImageName")
	ErrImageInspect          = errors.New("ImageInspectError")
	ErrRegistryUnavailable   = errors.New("RegistryUnavailable")
	ErrCreateContainerConfig = errors.New("CreateContainerConfigError")
	ErrCreateContainer       = errors.New("CreateContainerError")
	ErrRunContainer          = errors.New("RunContainerError")
	ErrPostStartHook         = errors.New("PostStartHookError")
	ErrKillContainer         = errors.New("KillContainerError")
	ErrCreatePodSandbox      = errors.New("CreatePodSandboxError")
	ErrResizePodInPlace      = errors.New("ResizePodInPlaceError")
	ErrKillPodSandbox        = errors.New("KillPodSandboxError")
	ErrRemoveContainer       = errors.New("RemoveContainerError")
)

// SyncAction is one thing SyncPod did.
type SyncAction string

const (
	StartContainer   SyncAction = "StartContainer"
	KillContainer    SyncAction = "KillContainer"
	CreatePodSandbox SyncAction = "CreatePodSandbox"
	KillPodSandbox   SyncAction = "KillPodSandbox"
	ResizePodInPlace SyncAction = "ResizePodInPlace"
	RemoveContainer  SyncAction = "RemoveContainer"
)

// SyncResult is how one action on one target ended.
type SyncResult struct {
	Action  SyncAction
	Target  string // a container's name, or the pod's
	Error   error  // one of the Err values above, or nil
	Message string // what to tell the user
	// RetryAt is when trying again makes sense; zero when the error has no such time.
	RetryAt time.Time
}

// PodSyncResult collects the results of one SyncPod, in the order of the actions.
type PodSyncResult struct {
	SyncResults []*SyncResult
	// Acted is true when the runtime was asked to change anything.
	Acted bool
}

// Add records one result.
func (p *PodSyncResult) Add(action SyncAction, target string, err error, message string) *SyncResult {
	result := &SyncResult{Action: action, Target: target, Error: err, Message: message}
	p.SyncResults = append(p.SyncResults, result)
	return result
}

// Did tells whether an action succeeded on any target.
func (p *PodSyncResult) Did(action SyncAction) bool {
	return slices.ContainsFunc(p.SyncResults, func(r *SyncResult) bool { return r.Action == action && r.Error == nil })
}

// SyncError is a failed sync; RetryAt, when set, is when the earliest of its
// causes lapses.
type SyncError struct {
	Messages []string
	RetryAt  time.Time
}

func (e *SyncError) Error() string { return strings.Join(e.Messages, "; ") }

// Err is nil when all went well. Otherwise it is a *SyncError; its time is set
// only if every failure knows when to try again.
func (p *PodSyncResult) Err() error {
	syncError := &SyncError{}
	timed := true
	for _, r := range p.SyncResults {
		if r.Error == nil {
			continue
		}
		syncError.Messages = append(syncError.Messages, fmt.Sprintf("failed to %q for %q with %s: %q", r.Action, r.Target, r.Error, r.Message))
		if r.RetryAt.IsZero() {
			timed = false
		} else if syncError.RetryAt.IsZero() || r.RetryAt.Before(syncError.RetryAt) {
			syncError.RetryAt = r.RetryAt
		}
	}
	if len(syncError.Messages) == 0 {
		return nil
	}
	if !timed {
		syncError.RetryAt = time.Time{}
	}
	return syncError
}
