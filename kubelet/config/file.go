package config

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // an identity, not a protection
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/yaml"

	kubepod "hyperkube/kubelet/pod"
)

// Static says how manifests become pods of this node.
type Static struct {
	// Node is the node's name: it is appended to the pod's.
	Node string
	// SetDefaults fills in what the apiserver would; Validate refuses what it would.
	SetDefaults func(*v1.Pod)
	Validate    func(*v1.Pod) error
	Clock       clock.WithTicker
	// Period between two looks.
	Period time.Duration
}

// RunFile reads a manifest, or a directory of them, until ctx ends. A manifest
// that cannot be read is reported and left out; the others run.
func RunFile(ctx context.Context, path string, s Static, mux *Mux) {
	s.poll(ctx, func() {
		pods, errs := s.readPath(path)
		for _, err := range errs {
			klog.FromContext(ctx).Error(err, "Reading static pods")
		}
		mux.Set(ctx, FileSource, pods)
	})
}

// RunHTTP reads manifests from a URL until ctx ends.
func RunHTTP(ctx context.Context, url string, s Static, mux *Mux) {
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	s.poll(ctx, func() {
		pods, err := s.readURL(ctx, client, url)
		if err != nil {
			klog.FromContext(ctx).Error(err, "Reading static pods", "url", url)
			return
		}
		mux.Set(ctx, HTTPSource, pods)
	})
}

func (s Static) poll(ctx context.Context, look func()) {
	ticker := s.Clock.NewTicker(s.Period)
	defer ticker.Stop()
	for {
		look()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}

func (s Static) readPath(path string) (pods []*v1.Pod, errs []error) {
	info, err := os.Stat(path)
	if os.IsNotExist(err) {
		return nil, nil // no directory, no static pods; it may come
	}
	if err != nil {
		return nil, []error{err}
	}
	files := []string{path}
	if info.IsDir() {
		files, err = filepath.Glob(filepath.Join(path, "*"))
		if err != nil {
			return nil, []error{err}
		}
		sort.Strings(files)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() || strings.HasPrefix(filepath.Base(file), ".") {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		pod, err := s.decode(data, "file:"+file, FileSource)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", file, err))
			continue
		}
		pods = append(pods, pod)
	}
	return pods, errs
}

func (s Static) readURL(ctx context.Context, client *http.Client, url string) ([]*v1.Pod, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, 10<<20))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, response.Status)
	}
	list := v1.PodList{}
	if err := yaml.Unmarshal(data, &list); err == nil && list.Kind == "PodList" {
		var pods []*v1.Pod
		for i := range list.Items {
			pod, err := s.complete(&list.Items[i], "http:"+url, HTTPSource)
			if err != nil {
				return nil, err
			}
			pods = append(pods, pod)
		}
		return pods, nil
	}
	pod, err := s.decode(data, "http:"+url, HTTPSource)
	if err != nil {
		return nil, err
	}
	return []*v1.Pod{pod}, nil
}

func (s Static) decode(data []byte, origin, source string) (*v1.Pod, error) {
	pod := &v1.Pod{}
	if err := yaml.UnmarshalStrict(bytes.TrimSpace(data), pod); err != nil {
		return nil, fmt.Errorf("not a Pod: %w", err)
	}
	if pod.Kind != "Pod" {
		return nil, fmt.Errorf("kind is %q, must be Pod", pod.Kind)
	}
	return s.complete(pod, origin, source)
}

// complete gives a manifest's pod what a pod of the API has: a UID made from its
// content and its origin (so that a changed file is another pod), the node's name
// in its own (names on other nodes may be the same), defaults.
func (s Static) complete(pod *v1.Pod, origin, source string) (*v1.Pod, error) {
	if pod.UID == "" {
		content, err := yaml.Marshal(pod)
		if err != nil {
			return nil, err
		}
		hash := md5.New() //nolint:gosec
		fmt.Fprintf(hash, "host:%s%s", s.Node, origin)
		hash.Write(content)
		pod.UID = types.UID(hex.EncodeToString(hash.Sum(nil)))
	}
	pod.Name = pod.Name + "-" + strings.ToLower(s.Node)
	if pod.Namespace == "" {
		pod.Namespace = metav1.NamespaceDefault
	}
	pod.Spec.NodeName = s.Node
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[kubepod.ConfigHashAnnotation] = string(pod.UID)
	pod.Annotations[kubepod.ConfigSourceAnnotation] = source
	// No taint may take a static pod away: nobody could bring it back.
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, v1.Toleration{Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute})
	if s.SetDefaults != nil {
		s.SetDefaults(pod)
	}
	if s.Validate != nil {
		if err := s.Validate(pod); err != nil {
			return nil, err
		}
	}
	pod.Status.Phase = v1.PodPending
	return pod, nil
}
