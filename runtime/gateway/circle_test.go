// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
)

const (
	idA = "aaaaaaaaaaaaaaaa"
	idB = "bbbbbbbbbbbbbbbb"
)

// Two gateways that each believe that the other has a resource would ask each other for ever. The request ends where it began, and
// the client hears why.
func TestCircleOfGateways(t *testing.T) {
	var clients [2]atomic.Pointer[backend.Client]
	var calls [2]atomic.Int32
	gateways := [2]*fixture{}
	for i, id := range []string{idA, idB} {
		gateways[i] = start(t, gateway.Options{ID: id, Upstreams: exchanges(
			func(ctx context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
				calls[i].Add(1)
				return clients[i].Load().Exchange(ctx, r, sink)
			})})
	}
	for i, id := range []string{idA, idB} {
		c := backend.NewClient(backend.Target{
			Key: docs, URL: gateways[1-i].endpoint(), Transport: v1alpha1.TransportStreamableHTTP,
		}, backend.Options{GatewayID: id})
		t.Cleanup(c.Close)
		clients[i].Store(c)
		if err := c.Probe(t.Context()); err != nil {
			t.Fatalf("a gateway is a fine backend of another: %v", err)
		}
	}
	eras(t, func(t *testing.T, era string) {
		calls[0].Store(0)
		calls[1].Store(0)
		m := gateways[0].ask(era, "resources/read", `{"uri":"file:///readme"}`)
		if m.Error == nil || !strings.Contains(m.Error.Message, "remove the backend that closes the circle") {
			t.Errorf("the client hears %s %+v", m.Result, m.Error)
		}
		if a, b := calls[0].Load(), calls[1].Load(); a != 1 || b != 1 {
			t.Errorf("the gateways called on %d and %d times", a, b)
		}
	})
}

func TestTrail(t *testing.T) {
	var seen atomic.Pointer[http.Header]
	end := start(t, gateway.Options{})
	recording := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			header := r.Header.Clone()
			seen.Store(&header)
		}
		end.Gateway.Handler().ServeHTTP(w, r)
	})
	between := httptest.NewServer(recording)
	t.Cleanup(between.Close)
	c := backend.NewClient(backend.Target{Key: docs, URL: between.URL + gateway.Path, Transport: v1alpha1.TransportStreamableHTTP},
		backend.Options{GatewayID: idA})
	t.Cleanup(c.Close)
	f := start(t, gateway.Options{ID: idA, Upstreams: only{c}})
	long := strings.TrimSuffix(strings.Repeat(idB+",", 16), ",")
	for name, test := range map[string]struct {
		trail string
		want  string // the trail at the backend; "" if the request is refused
	}{
		"a client":        {"", idA},
		"another gateway": {idB, idB + ", " + idA},
		"itself":          {idB + "," + idA, ""},
		"far too many":    {long, ""},
		"no ids":          {"x, <script>, AAAAAAAAAAAAAAAA, " + idB, idB + ", " + idA},
	} {
		t.Run(name, func(t *testing.T) {
			response, body := f.do(http.MethodPost, gateway.Path,
				`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"docs_search"}}`,
				"Mcp-Protocol-Version", legacy, "Mcp-Session-Id", f.initialize(), backend.HeaderTrail, test.trail)
			if refused := response.StatusCode == http.StatusLoopDetected; refused != (test.want == "") {
				t.Fatalf("%s %s", response.Status, body)
			}
			if test.want != "" && seen.Load().Get(backend.HeaderTrail) != test.want {
				t.Errorf("the backend sees %q, want %q", seen.Load().Get(backend.HeaderTrail), test.want)
			}
		})
	}
}
