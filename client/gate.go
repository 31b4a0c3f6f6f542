package client

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"hyperkube/flow"
	"hyperkube/reconcile"
)

// Where a process whose controllers can be held learns whom to hold (a GET that stays
// open), and tells what it holds.
const (
	HoldPath = "/debug/flow/hold"
	HeldPath = "/debug/flow/held"
)

// firstPause and lastPause are between two attempts to reach the apiserver.
const firstPause, lastPause = 200 * time.Millisecond, 5 * time.Second

// FollowGates lets the apiserver's gates work the turnstile, until ctx ends: no key passes
// before they have been heard. While the
// apiserver is away the turnstile stays as it is; when it is back, its gates are open,
// and so is the turnstile. An apiserver that has no gates (404: upstream's) is asked once;
// one that does not let us ask holds nobody, and is asked again: it may not yet have
// read its roles.
func FollowGates(ctx context.Context, turnstile *reconcile.Turnstile, client rest.Interface) {
	logger := klog.FromContext(ctx)
	pause := firstPause
	for ctx.Err() == nil {
		started := time.Now()
		err := followGates(ctx, turnstile, client)
		switch {
		case apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err):
			logger.V(2).Info("The apiserver has no gates: controllers cannot be stepped", "err", err)
			turnstile.Set(nil, nil)
			return
		case apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err):
			turnstile.Set(nil, nil)
		}
		if time.Since(started) > lastPause {
			pause = firstPause
		}
		logger.V(3).Info("Lost the apiserver's gates, will ask again", "err", err, "retryIn", pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// followGates is one connection: wishes come in, reports go out, until either fails.
func followGates(ctx context.Context, turnstile *reconcile.Turnstile, client rest.Interface) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := client.Get().AbsPath(HoldPath).Stream(ctx)
	if err != nil {
		return err
	}
	wishes := make(chan flow.Wish)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		decoder := json.NewDecoder(stream)
		for {
			var wish flow.Wish
			if err := decoder.Decode(&wish); err != nil {
				cancel(err)
				return
			}
			select {
			case wishes <- wish:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() {
		cancel(nil)
		stream.Close()
		<-ended
	}()
	link := int64(0)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case wish := <-wishes:
			link = wish.Link
			turnstile.Set(wish.Hold, wish.Pass)
		case <-turnstile.Changed():
		}
		if link == 0 {
			continue // we do not yet know under which number to report; the first wish says so
		}
		if err := reportKeys(ctx, turnstile, client, link); err != nil {
			return err
		}
	}
}

func reportKeys(ctx context.Context, turnstile *reconcile.Turnstile, client rest.Interface, link int64) error {
	report := flow.KeyReport{Link: link}
	var held []reconcile.HeldKey
	report.Controllers, held = turnstile.Look()
	for _, k := range held {
		report.Held = append(report.Held, flow.HeldKey{ID: k.ID, Controller: k.Controller, Key: flow.KeyEvent(k.Key, k.Causes), Queued: k.Queued})
	}
	body, err := json.Marshal(report)
	if err != nil {
		return err
	}
	return client.Post().AbsPath(HeldPath).SetHeader("Content-Type", "application/json").Body(bytes.NewReader(body)).
		Timeout(10 * time.Second).Do(ctx).Error()
}
