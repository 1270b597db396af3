// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package load_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/test/echo"
	"github.com/vmcp-dev/vmcp-operator/test/load"
)

func open(t *testing.T, handler http.Handler, server string, era load.Era) *load.Client {
	t.Helper()
	ts := httptest.NewServer(handler)
	t.Cleanup(ts.Close)
	c, err := load.Dial(ts.URL+"/"+server+"/mcp", era)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestCalls(t *testing.T) {
	for _, era := range []load.Era{load.Legacy, load.Modern} {
		for _, server := range []string{"s", "s" + echo.StreamSuffix} {
			for _, size := range []int{32, 64 << 10} {
				c := open(t, &echo.Server{Modern: era == load.Modern, Tools: 50}, server, era)
				if err := c.Open(); err != nil {
					t.Fatalf("%s: %v", era, err)
				}
				if n, err := c.Tools(); err != nil || n != 50 {
					t.Errorf("%s: %d tools, %v", era, n, err)
				}
				caller := c.Caller(echo.Tool(server), size)
				for range 3 {
					if err := caller.Call(); err != nil {
						t.Errorf("%s, %s, %d bytes: %v", era, server, size, err)
					}
				}
			}
		}
	}
}

// An answer counts only with the id and the text of its own call.
func TestForeignAnswersAreErrors(t *testing.T) {
	for name, change := range map[string]func(request string) string{
		"another id":   func(r string) string { return strings.Replace(r, `"id":1000000001`, `"id":1000000002`, 1) },
		"another text": func(r string) string { return strings.Replace(r, `"text":"1000000001`, `"text":"1000000009`, 1) },
		"a short text": func(r string) string { return strings.Replace(r, "xx", "x", 1) },
	} {
		server := &echo.Server{}
		c := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			r.Body = io.NopCloser(strings.NewReader(change(string(body))))
			server.ServeHTTP(w, r)
		}), "s", load.Legacy)
		if err := c.Caller(echo.Tool("s"), 32).Call(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRunStopsAtAnErrorAndDoesNotRepeat(t *testing.T) {
	calls := 0
	fails := func() error {
		calls++
		if calls == 3 {
			return errors.New("third")
		}
		return nil
	}
	r := load.Run([]load.Call{fails}, time.Minute)
	if r.Calls != 2 || r.Errors != 1 || r.Err == nil || calls != 3 {
		t.Errorf("%d calls, %d errors, %v; called %d times", r.Calls, r.Errors, r.Err, calls)
	}
}

func TestLatency(t *testing.T) {
	r := load.Once([]load.Call{func() error { return nil }, func() error { time.Sleep(20 * time.Millisecond); return nil }})
	if r.Calls != 2 || r.Latency(0) >= 20*time.Millisecond || r.Latency(1) < 20*time.Millisecond {
		t.Errorf("%d calls, %v to %v", r.Calls, r.Latency(0), r.Latency(1))
	}
	if (load.Result{}).Latency(.5) != 0 {
		t.Error("no call has a latency")
	}
}
