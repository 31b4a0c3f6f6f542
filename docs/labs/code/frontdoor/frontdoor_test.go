package frontdoor

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"hyperkube/scheduler/framework"
)

// R98: the plugin of lab 3.
func TestFrontDoor(t *testing.T) {
	p, err := New(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		labels map[string]string
		fits   bool
		score  int64
		wakes  framework.QueueingHint
	}{
		"open":        {nil, true, 0, framework.Queue},
		"closed":      {map[string]string{closed: ""}, false, 0, framework.QueueSkip},
		"ranked":      {map[string]string{rank: "70"}, true, 70, framework.Queue},
		"ranked high": {map[string]string{rank: "700"}, true, 100, framework.Queue},
		"nonsense":    {map[string]string{rank: "first"}, true, 0, framework.Queue},
	} {
		node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: test.labels}}
		info := framework.NewNodeInfo()
		info.SetNode(node)
		if got := p.(framework.FilterPlugin).Filter(t.Context(), nil, nil, info).IsSuccess(); got != test.fits {
			t.Errorf("%s: fits %v", name, got)
		}
		if got, _ := p.(framework.ScorePlugin).Score(t.Context(), nil, nil, info); got != test.score {
			t.Errorf("%s: score %d, want %d", name, got, test.score)
		}
		if got, _ := opened(klog.Background(), nil, nil, node); got != test.wakes {
			t.Errorf("%s: wakes %v", name, got)
		}
	}
}
