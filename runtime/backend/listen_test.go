// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// TestModern_AMalformedRefusalOfTheStream has a backend refuse subscriptions/listen with what is no JSON-RPC error.
func TestModern_AMalformedRefusalOfTheStream(t *testing.T) {
	for name, refusal := range map[string]string{
		"a code that is text":         `{"code":"x","message":"m"}`,
		"a code that is no integer":   `{"code":1.5,"message":"m"}`,
		"a code with a point":         `{"code":-32601.0,"message":"m"}`,
		"a code that is too large":    `{"code":100000000000000000000,"message":"m"}`,
		"a message that is no string": `{"code":-32601,"message":{"text":"m"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			s, url := newModern(t, only("subscriptions/listen", func(w http.ResponseWriter, _ *http.Request, m request) {
				event(w, data(`{"jsonrpc":"2.0","id":%s,"error":%s}`, m.ID, refusal))
			}))
			s.capabilities = `{"tools":{"listChanged":true},"resources":{"subscribe":true}}`
			c := newClient(t, url, v1alpha1.TransportStreamableHTTP, backend.Limits{})
			ctx := deadline(t, 10*time.Second)
			if err := c.Probe(ctx); err != nil { // it is there, and serves
				t.Fatal(err)
			}
			err := c.WatchResource(ctx, "x://a", func(rpc.Message) {})
			if err == nil {
				t.Fatal("the resource is watched")
			}
			if f := c.Classify(err); f.Reason != v1alpha1.ReasonNotMCP || !strings.Contains(f.Message, "a malformed error") {
				t.Errorf("%v gives %+v", err, f)
			}
			if err := c.Probe(ctx); err != nil {
				t.Errorf("after the refusal: %v", err)
			}
		})
	}
}

// What a backend quotes of the credentials when it refuses subscriptions/listen does not get to the client that subscribes.
func TestModern_ARefusalOfTheStreamIsRedacted(t *testing.T) {
	s, url := newModern(t, only("subscriptions/listen", func(w http.ResponseWriter, r *http.Request, m request) {
		value := r.Header.Get("Authorization")
		event(w, data(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":"what is %s","data":{"header":%q}}}`, m.ID, value, value))
	}))
	s.capabilities = `{"resources":{"subscribe":true}}`
	c := newAuthorizedClient(t, url, v1alpha1.TransportStreamableHTTP, oldValue)
	err := c.WatchResource(deadline(t, 10*time.Second), "x://a", func(rpc.Message) {})
	var e *backend.RPCError
	if !errors.As(err, &e) || e.Code != -32000 || e.Message != "what is [redacted]" || string(e.Data) != `{"header":"[redacted]"}` {
		t.Errorf("got %v", err)
	}
}

// A refusal that names no request is the answer at once, though the stream goes on.
func TestModern_ARefusalOfTheStreamWithoutAnID(t *testing.T) {
	s, url := newModern(t, only("subscriptions/listen", func(w http.ResponseWriter, r *http.Request, _ request) {
		event(w, data(`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"not understood"}}`))
		<-r.Context().Done()
	}))
	s.capabilities = `{"resources":{"subscribe":true}}`
	c := newClient(t, url, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	err := c.WatchResource(deadline(t, 5*time.Second), "x://a", func(rpc.Message) {})
	var e *backend.RPCError
	if !errors.As(err, &e) || e.Message != "not understood" {
		t.Errorf("got %v", err)
	}
}
