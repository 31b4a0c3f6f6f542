package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// browser is a headless Chromium with the live page of a cluster.
type browser struct {
	ctx context.Context

	mu     sync.Mutex
	bodies []network.RequestID // of all answers
}

// openPage opens the link that the cluster prints, in a browser of this language.
func openPage(t *testing.T, c *cluster, language string) *browser {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		t.Skip("needs a headless browser: install Debian's package chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox, // root has none
		chromedp.Flag("headless", "new"), chromedp.WindowSize(1400, 900))
	allocated, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancelBrowser := chromedp.NewContext(allocated)
	t.Cleanup(cancelBrowser)
	// Started by itself: it would end with the time that do gives the first actions.
	if err := chromedp.Run(ctx); err != nil {
		t.Fatalf("starting %s: %v", program, err)
	}
	b := &browser{ctx: ctx}
	chromedp.ListenTarget(ctx, func(event any) {
		if done, ok := event.(*network.EventLoadingFinished); ok {
			b.mu.Lock()
			b.bodies = append(b.bodies, done.RequestID)
			b.mu.Unlock()
		}
	})
	link, _, err := c.run(exec.Command(binary, "page", "--url", "--data-dir="+c.dir))
	if err != nil {
		t.Fatal(err)
	}
	b.do(t, network.Enable(), emulation.SetUserAgentOverride("Mozilla/5.0").WithAcceptLanguage(language), chromedp.Navigate(strings.TrimSpace(link)), chromedp.WaitVisible("#diagram svg"))
	return b
}

func (b *browser) do(t *testing.T, actions ...chromedp.Action) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		t.Fatalf("the browser: %v\non the page: %s", err, b.text())
	}
}

// text is all that can be read on the page.
func (b *browser) text() (text string) {
	if err := chromedp.Run(b.ctx, chromedp.Evaluate(`document.body.innerText`, &text)); err != nil {
		return err.Error()
	}
	return text
}

// ask evaluates an expression that gives a text.
func (b *browser) ask(expression string) (text string) {
	if err := chromedp.Run(b.ctx, chromedp.Evaluate(expression, &text)); err != nil {
		return err.Error()
	}
	return text
}

// shows waits until an expression gives a text with this in it.
func (b *browser) shows(t *testing.T, expression, want string) {
	t.Helper()
	eventually(t, "the page shows "+want, func() error {
		if text := b.ask(expression); !strings.Contains(text, want) {
			return fmt.Errorf("there is %q", tail(text, 40))
		}
		return nil
	})
}

// picture keeps a screenshot for people to look at, in $HYPERKUBE_PAGE_SHOTS.
func (b *browser) picture(t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv("HYPERKUBE_PAGE_SHOTS")
	if dir == "" {
		return
	}
	var png []byte
	b.do(t, chromedp.CaptureScreenshot(&png))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		t.Fatal(err)
	}
}

// arrow is the first button in the list that reads like this.
func arrow(text string) string {
	return fmt.Sprintf(`([...document.querySelectorAll('#groups button.arrow')].find(b => b.innerText.replace(/\s+/g, ' ').includes(%q)))`, text)
}

const list = `document.querySelector('#groups').innerText.replace(/\s+/g, ' ')`

// The live page (issue 3): arrows appear for a kubectl create; a click shows the change and, beside
// it, the line of source that made it; objects and stories can be read; all by keyboard as well.
func TestPageShowsWhatHappens(t *testing.T) {
	c := shared(t)
	ns := c.namespace(t)
	b := openPage(t, c, "en-US")
	c.kubectl(t, "-n", ns, "create", "deployment", "seen", "--image=hyperkube.local/demo", "--replicas=2")
	c.kubectl(t, "-n", ns, "expose", "deployment", "seen", "--port=80", "--target-port=8080")
	for _, want := range []string{"kubectl create Deployment " + ns + "/seen", "controller-manager/deployment create ReplicaSet", "scheduler create binding Pod", "CRI StartContainer", "iptables-restore"} {
		b.shows(t, list, want)
	}
	b.shows(t, `document.querySelector('[data-component="controller-manager"]').parentNode.textContent`, "deployment")
	b.picture(t, "desktop")

	// A click shows the line, as the tree has it.
	b.do(t, chromedp.Evaluate(arrow("controller-manager/deployment create ReplicaSet "+ns)+`.click()`, nil), chromedp.WaitVisible(".line.marked"))
	place := b.ask(`document.querySelector('.place code').innerText`)
	file, line, _ := strings.Cut(place, ":")
	source, err := os.ReadFile("../../" + file)
	if err != nil {
		t.Fatal(err)
	}
	number := 0
	fmt.Sscan(line, &number)
	lines := strings.Split(string(source), "\n")
	marked := b.ask(`document.querySelector('.line.marked code').textContent`)
	if !strings.HasPrefix(file, "controllers/deployment/") || number < 1 || number > len(lines) || lines[number-1] != marked {
		t.Errorf("%s is shown as %q", place, marked)
	}
	b.shows(t, `document.querySelector('.diff').innerText`, "spec.replicas")
	b.picture(t, "detail")

	// By keyboard: Esc closes, 2 shows the objects, 3 the stories, ? the keys.
	b.do(t, chromedp.KeyEvent(kb.Escape), chromedp.WaitNotVisible("#detail"), chromedp.KeyEvent("2"), chromedp.WaitVisible("#view-objects .thing"))
	for _, want := range []string{"Deployment seen", "ReplicaSet seen-", "Pod seen-", "container demo", "Service seen", "EndpointSlice seen-", "KUBE-SVC-"} {
		b.shows(t, `document.querySelector('#view-objects').innerText.replace(/\s+/g, ' ')`, want)
	}
	b.picture(t, "objects")
	b.do(t, chromedp.Evaluate(`[...document.querySelectorAll('#view-objects button.Deployment')].find(b => b.innerText.includes('seen')).click()`, nil))
	b.shows(t, `document.querySelector('#view-story').innerText`, "CRI StartContainer")
	b.picture(t, "story")
	b.do(t, chromedp.KeyEvent("?"), chromedp.WaitVisible("#help"))
	b.picture(t, "help")
	b.do(t, chromedp.KeyEvent(kb.Escape), chromedp.KeyEvent("1"), chromedp.WaitVisible("#diagram"), chromedp.KeyEvent("j"))
	if focused := b.ask(`document.activeElement.className`); !strings.Contains(focused, "arrow") {
		t.Errorf("j moved the focus to %q, want an arrow of the list", focused)
	}
	b.do(t, chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible("#detail"), chromedp.KeyEvent(kb.Escape))
}

// A pause holds the picture, not the cluster; what came meanwhile is shown afterwards.
func TestPagePauses(t *testing.T) {
	c := shared(t)
	ns := c.namespace(t)
	b := openPage(t, c, "en-US")
	b.do(t, chromedp.KeyEvent(" "))
	b.shows(t, `document.querySelector('#pause').getAttribute('aria-pressed')`, "true")
	c.kubectl(t, "-n", ns, "create", "configmap", "meanwhile")
	b.shows(t, `document.querySelector('#pause').innerText`, "new")
	if text := b.ask(list); strings.Contains(text, ns+"/meanwhile") {
		t.Error("a paused picture went on")
	}
	b.do(t, chromedp.KeyEvent(" "))
	b.shows(t, list, "create ConfigMap "+ns+"/meanwhile")
}

// The step button holds the scheduler: a pod stays Pending until One lets its event through.
func TestPageSteps(t *testing.T) {
	c := shared(t)
	ns := c.namespace(t)
	b := openPage(t, c, "en-US")
	b.do(t, chromedp.Click("#step-scheduler"), chromedp.WaitVisible("#one-scheduler"))
	t.Cleanup(func() { c.run(exec.Command(binary, "continue", "scheduler", "--data-dir="+c.dir)) })
	c.kubectl(t, "-n", ns, "run", "stepped", "--image=hyperkube.local/demo")
	b.shows(t, `document.querySelector('.gate').innerText`, "Pod "+ns+"/stepped")
	b.picture(t, "held")
	if node := c.kubectl(t, "-n", ns, "get", "pod", "stepped", "-o", "jsonpath={.spec.nodeName}"); node != "" {
		t.Fatalf("bound to %s while the scheduler is held", node)
	}
	eventually(t, "One binds the pod", func() error {
		b.do(t, chromedp.Click("#one-scheduler"))
		if node := c.kubectl(t, "-n", ns, "get", "pod", "stepped", "-o", "jsonpath={.spec.nodeName}"); node == "" {
			return errors.New("no node yet")
		}
		return nil
	})
	b.do(t, chromedp.Click("#continue-scheduler"), chromedp.WaitVisible("#step-scheduler"))
}

// The value of a Secret is in nothing that the browser is sent, and nowhere on the page.
func TestPageKeepsSecrets(t *testing.T) {
	c := shared(t)
	ns := c.namespace(t)
	const canary, encoded = "canary-7f3a9", "Y2FuYXJ5LTdmM2E5"
	b := openPage(t, c, "en-US")
	c.kubectl(t, "-n", ns, "create", "secret", "generic", "hidden", "--from-literal=password="+canary)
	c.kubectl(t, "-n", ns, "patch", "secret", "hidden", "-p", `{"stringData":{"password":"`+canary+`-2"}}`)
	b.shows(t, list, "kubectl patch Secret "+ns+"/hidden")
	for _, what := range []string{"create", "patch"} {
		b.do(t, chromedp.Evaluate(arrow("kubectl "+what+" Secret "+ns+"/hidden")+`.click()`, nil), chromedp.WaitVisible(".diff"))
		b.shows(t, `document.querySelector('.diff').innerText`, "redacted")
		b.do(t, chromedp.KeyEvent(kb.Escape), chromedp.WaitNotVisible("#detail"))
	}
	b.do(t, chromedp.Evaluate(fmt.Sprintf(`fetch('/api/trace?kind=Secret&namespace=%s&name=hidden').then(r => r.text())`, ns), nil))
	b.mu.Lock()
	answers := append([]network.RequestID{}, b.bodies...)
	b.mu.Unlock()
	read := 0
	seen := b.ask(`document.documentElement.outerHTML`)
	b.do(t, chromedp.ActionFunc(func(ctx context.Context) error {
		for _, id := range answers {
			if body, err := network.GetResponseBody(id).Do(ctx); err == nil {
				seen += string(body)
				read++
			}
		}
		return nil
	}))
	if read < 5 {
		t.Fatalf("only %d answers could be read", read)
	}
	if strings.Contains(seen, canary) || strings.Contains(seen, encoded) {
		t.Error("the page knows the value of a Secret")
	}
}

// It can be read in Japanese, from the back of a classroom, on a phone, and in the dark.
func TestPageForEverybody(t *testing.T) {
	c := shared(t)
	ns := c.namespace(t)
	b := openPage(t, c, "ja-JP")
	b.shows(t, `document.body.innerText`, "コンポーネント")
	c.kubectl(t, "-n", ns, "create", "deployment", "seen", "--image=hyperkube.local/demo")
	b.shows(t, list, "CRI StartContainer")
	b.picture(t, "japanese")
	b.do(t, emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}))
	b.picture(t, "dark")
	for name, size := range map[string][2]int64{"classroom": {1024, 768}, "phone": {390, 844}} {
		b.do(t, chromedp.EmulateViewport(size[0], size[1]))
		b.shows(t, `String(document.documentElement.scrollWidth <= innerWidth)`, "true")
		b.picture(t, name)
	}
	if size := b.ask(`String(parseFloat(getComputedStyle(document.querySelector('.arrow')).fontSize) >= 15)`); size != "true" {
		t.Error("the list's type is too small to read")
	}
	b.do(t, chromedp.KeyEvent("l"))
	b.shows(t, `document.body.innerText`, "What happened")
}
