package simulated

import (
	"reflect"
	"testing"
	"time"
)

// The table in the package's documentation.
func TestPlanOfCommand(t *testing.T) {
	for _, c := range []struct {
		words []string
		want  plan
	}{
		{nil, plan{forever: true}},
		{[]string{"sleep", "5"}, plan{duration: 5 * time.Second}},
		{[]string{"sleep", "0.5"}, plan{duration: 500 * time.Millisecond}},
		{[]string{"sleep", "infinity"}, plan{forever: true}},
		{[]string{"true"}, plan{}}, {[]string{"false"}, plan{code: 1}}, {[]string{"exit", "3"}, plan{code: 3}},
		{[]string{"echo", "hello"}, plan{output: []string{"hello"}}},
		{[]string{"sh", "-c", "echo a; sleep 2 && exit 1; echo b"}, plan{output: []string{"a"}, duration: 2 * time.Second, code: 1}},
		{[]string{"/bin/sh", "-c", "while true; do date; done"}, plan{forever: true}},
		{[]string{"nginx"}, plan{forever: true}},
	} {
		if got := planOfCommand(c.words); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %+v, want %+v", c.words, got, c.want)
		}
	}
}

func TestAddresses(t *testing.T) {
	pool, err := newAddresses("10.0.0.0/29")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		ip, err := pool.take()
		if err != nil {
			break
		}
		got = append(got, ip.String())
	}
	if want := []string{"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"}; !reflect.DeepEqual(got, want) {
		t.Errorf("addresses %v, want %v", got, want)
	}
}
