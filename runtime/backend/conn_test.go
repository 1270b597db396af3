// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
)

// TestLargeBodiesArriveAsTheyAre sends requests from memory that calls take turns with, over connections that stay open.
func TestLargeBodiesArriveAsTheyAre(t *testing.T) {
	const size, callers, calls = 300 << 10, 8, 5
	inner := echo(relay.Modern, 1)
	var whole atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if _, rest, ok := bytes.Cut(body, []byte(`"text":"`)); ok {
			text, _, _ := bytes.Cut(rest, []byte(`"`))
			if len(text) == size && len(bytes.Trim(text, string(text[:1]))) == 0 {
				whole.Add(1)
			}
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	c := backend.NewClient(backend.Target{Key: docs, URL: server.URL, Transport: v1alpha1.TransportStreamableHTTP}, backend.Options{})
	t.Cleanup(c.Close)
	var running sync.WaitGroup
	for i := range callers {
		r := message(t, relay.Modern, "tools/call", `{"name":"echo","arguments":{"text":"`+strings.Repeat(string(rune('a'+i)), size)+`"}}`)
		running.Go(func() {
			for range calls {
				answer, err := c.Exchange(t.Context(), r, nil)
				if err != nil {
					t.Error(err)
					return
				}
				answer.Done()
			}
		})
	}
	running.Wait()
	if got := whole.Load(); got != callers*calls {
		t.Errorf("%d of %d texts arrived whole", got, callers*calls)
	}
}
