package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"hyperkube/component"
)

// Content types a component may speak; JSON is the default because it can be
// read on the wire and in the apiserver's log.
const (
	ContentTypeJSON     = "application/json"
	ContentTypeProtobuf = "application/vnd.kubernetes.protobuf"
)

// Load reads the kubeconfig of the named component. contentType "" means JSON.
// A file that is missing or broken is an error that names it and the remedy.
func Load(kubeconfig, componentName, contentType string) (*rest.Config, error) {
	if kubeconfig == "" {
		return nil, fmt.Errorf("no kubeconfig: give --data-dir or --kubeconfig; `hyperkube all` and `hyperkube apiserver` make one")
	}
	if _, err := os.Stat(kubeconfig); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("kubeconfig %s does not exist: start `hyperkube apiserver` with the same --data-dir, or name another with --kubeconfig", kubeconfig)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w; mend it, or remove it to have it made anew", kubeconfig, err)
	}
	// What stands before the "/" owns the fields that the component writes (managedFields).
	config.UserAgent = fmt.Sprintf("%s/hyperkube (%s/%s)", componentName, runtime.GOOS, runtime.GOARCH)
	config.QPS, config.Burst = -1, -1
	config.WarningHandlerWithContext = &onceEach{seen: map[string]bool{}}
	TellCauses(config)
	ObeyFences(config)
	if contentType != "" && contentType != ContentTypeJSON {
		config.ContentType = contentType
		config.AcceptContentTypes = contentType + "," + ContentTypeJSON
	}
	return config, nil
}

// WaitForAPI blocks until the apiserver answers that it is ready, and says
// what it waits for when that takes longer than a moment (R04, R17). config is
// asked for at each try, since the apiserver may bind its port only later.
func WaitForAPI(ctx context.Context, config func() (*rest.Config, error)) (*rest.Config, error) {
	logger := klog.FromContext(ctx)
	var ready *rest.Config
	err := component.Wait(ctx, func(cause error) {
		logger.Info("Waiting for the apiserver", "cause", cause)
	}, func(ctx context.Context) error {
		c, err := config()
		if err != nil {
			return err
		}
		set, err := kubernetes.NewForConfig(c)
		if err != nil {
			return err
		}
		if err := set.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error(); err != nil {
			return fmt.Errorf("%s: %w", c.Host, err)
		}
		ready = c
		return nil
	})
	return ready, err
}
