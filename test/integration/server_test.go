package integration

import (
	"context"
	"testing"
	"time"
)

// An apiserver is there fast enough for a test of its own (DESIGN.md, section 6), and says what it is.
func TestStart(t *testing.T) {
	start := time.Now()
	c := Start(t)
	t.Logf("ready after %s", time.Since(start))
	version, err := c.Client.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if version.Major != "1" || version.Minor < "37" {
		t.Errorf("version is %s", version)
	}
	body, err := c.Client.CoreV1().RESTClient().Get().AbsPath("/readyz").Param("verbose", "1").DoRaw(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", body)
}
