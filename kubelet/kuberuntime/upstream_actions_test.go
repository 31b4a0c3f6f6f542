package kuberuntime

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// TestActionsAreUpstreams asks computePodActions about each pod of up to two init containers or sidecars and two containers,
// in each of their states. testdata/actions.gz has what the kubelet of v1.37.1 does: sandbox, restart policy, init containers (init:STATE,
// side:STATE), containers, and then the actions.
func TestActionsAreUpstreams(t *testing.T) {
	file, err := os.Open("testdata/actions.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	asked, wrong := 0, 0
	for lines := bufio.NewScanner(unzipped); lines.Scan(); asked++ {
		words := strings.SplitN(lines.Text(), " ", 5)
		s := sceneIn(words)
		pod, status := build(s)
		got := recorded(computePodActions(pod, status, s.probes, false))
		if got == words[4] {
			continue
		}
		if wrong++; wrong < 20 {
			t.Errorf("%s\n got %s\nwant %s", strings.Join(words[:4], " "), got, words[4])
		}
	}
	if wrong > 0 || asked < 10000 {
		t.Errorf("%d of %d differ", wrong, asked)
	}
}

// sceneIn reads a line's first words.
func sceneIn(words []string) scene {
	s := scene{sandbox: words[0], policy: v1.RestartPolicy(words[1]), sidecars: map[int]bool{},
		probes: probes{liveness: map[string]bool{}, startup: map[string]bool{}, started: map[string]bool{}}}
	state := func(name, word string) string {
		id := name + "1"
		switch word {
		case "-":
			return ""
		case "ok":
			s.probes.started[id] = true
			return "run"
		case "bad":
			s.probes.startup[id] = true
			return "run"
		case "live":
			s.probes.started[id], s.probes.liveness[id] = true, true
			return "run"
		}
		return word
	}
	for i, word := range strings.Split(strings.TrimSuffix(words[2], ","), ",") {
		if kind, word, ok := strings.Cut(word, ":"); ok {
			s.sidecars[i] = kind == "side"
			s.init = append(s.init, state(fmt.Sprint("init", i), word))
		}
	}
	for i, word := range strings.Split(words[3], ",") {
		s.main = append(s.main, state(fmt.Sprint("main", i), word))
	}
	return s
}

// recorded is how the file has actions.
func recorded(a podActions) string {
	indexes := func(list []int) string { return strings.ReplaceAll(fmt.Sprint(list), " ", ",") }
	var kill []string
	for _, info := range a.ContainersToKill {
		kill = append(kill, info.name+"("+strings.ReplaceAll(info.message, " ", "_")+")")
	}
	slices.Sort(kill)
	return fmt.Sprintf("KillPod:%v CreateSandbox:%v Attempt:%d init:%s main:%s kill:%s", a.KillPod, a.CreateSandbox, a.Attempt,
		indexes(a.InitContainersToStart), indexes(a.ContainersToStart), strings.Join(kill, ","))
}
