// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// TestWatchResource_Legacy shares one subscription among all who watch a resource, and tells them of a gap.
func TestWatchResource_Legacy(t *testing.T) {
	s := newScripted(t)
	s.capabilities = `{"tools":{},"resources":{"subscribe":true}}`
	s.changes = make(chan string)
	s.answers["resources/subscribe"] = func(request) string { return `{}` }
	s.answers["resources/unsubscribe"] = func(request) string { return `{}` }
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	ctx := deadline(t, 20*time.Second)
	var heard [3]atomic.Int32
	var ends []context.CancelFunc
	var wg sync.WaitGroup
	for i, uri := range []string{"x://a", "x://a", "x://b"} {
		watch, end := context.WithCancel(ctx)
		ends = append(ends, end)
		wg.Go(func() {
			if err := c.WatchResource(watch, uri, func(m rpc.Message) {
				if strings.Contains(string(m.Raw), `"`+uri+`"`) {
					heard[i].Add(1)
				}
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := s.count("resources/subscribe"); n != 2 {
		t.Errorf("%d subscriptions", n)
	}
	s.changes <- ""                      // a gap
	s.changes <- "notifications/message" // the stream is there again
	eventually(t, "everybody hears of the gap", func() bool { return heard[0].Load() > 0 && heard[1].Load() > 0 && heard[2].Load() > 0 })
	ends[0]()
	ends[2]()
	eventually(t, "the subscription of x://b ends", func() bool { return s.count("resources/unsubscribe") == 1 })
	if got := string(s.last("resources/unsubscribe").Params); got != `{"uri":"x://b"}` {
		t.Errorf("unsubscribed %s", got)
	}
	without := newClient(t, newScripted(t).URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	var e *backend.RPCError
	if err := without.WatchResource(ctx, "x://c", func(rpc.Message) {}); !errors.As(err, &e) || e.Code != backend.CodeMethodNotFound {
		t.Errorf("a refused subscription gives %v", err)
	}
	for _, end := range ends {
		end()
	}
}

// TestWatchResource_Modern has one stream for everything; it changes with what is wanted, and is opened again when it ends.
func TestWatchResource_Modern(t *testing.T) {
	type filter struct {
		Tools bool     `json:"toolsListChanged"`
		URIs  []string `json:"resourceSubscriptions"`
	}
	var streams sync.Map // of filter by request id
	var open atomic.Int32
	kick := make(chan string)
	s, url := newModern(t, only("subscriptions/listen", func(w http.ResponseWriter, r *http.Request, m request) {
		var params struct{ Notifications filter }
		if err := json.Unmarshal(m.Params, &params); err != nil {
			t.Error(err)
		}
		streams.Store(string(m.ID), params.Notifications)
		open.Add(1)
		defer open.Add(-1)
		agreed := slices.DeleteFunc(slices.Clone(params.Notifications.URIs), func(uri string) bool { return uri == "x://no" })
		raw, _ := json.Marshal(agreed)
		event(w, data(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{"resourceSubscriptions":%s}}}`, raw))
		for {
			select {
			case say := <-kick:
				if say == "" {
					return
				}
				event(w, data("%s", say))
			case <-r.Context().Done():
				return
			}
		}
	}))
	s.capabilities = `{"tools":{"listChanged":true},"resources":{"subscribe":true}}`
	c := newClient(t, url, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	var announced, heard atomic.Int32
	c.OnListChanged(func() { announced.Add(1) })
	ctx := deadline(t, 20*time.Second)
	if err := c.Probe(ctx); err != nil {
		t.Fatal(err)
	}
	watch, end := context.WithCancel(ctx)
	defer end()
	for range 2 {
		if err := c.WatchResource(watch, "x://a", func(rpc.Message) { heard.Add(1) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.WatchResource(watch, "x://no", func(rpc.Message) {}); err == nil {
		t.Error("a watch that the backend did not agree to succeeds")
	}
	eventually(t, "one stream is open", func() bool { return open.Load() == 1 })
	kick <- `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x://a/part"}}`
	kick <- `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"y://other"}}`
	kick <- `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
	eventually(t, "the changes arrive", func() bool { return heard.Load() == 2 && announced.Load() == 1 })
	kick <- "" // the stream ends
	eventually(t, "the gap is made up for", func() bool { return heard.Load() == 4 && announced.Load() == 2 && open.Load() == 1 })
	end()
	eventually(t, "nobody watches any more", func() bool {
		last := s.all("subscriptions/listen")
		f, _ := streams.Load(string(last[len(last)-1].ID))
		got, ok := f.(filter)
		return ok && got.Tools && len(got.URIs) == 0 && open.Load() == 1
	})
}

// A client that waits for a resource to change does not call; the session that the backend forgot is opened again all the same.
func TestLegacy_SubscriptionsOutliveTheSession(t *testing.T) {
	for name, refuse := range map[string]func(http.ResponseWriter){
		"404": func(w http.ResponseWriter) { http.Error(w, "session not found", http.StatusNotFound) },
		"404 that speaks of a method": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"jsonrpc":"2.0","error":{"code":-32601,"message":"no such method"},"id":null}`)
		},
		"400 of an older SDK": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"},"id":null}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t)
			s.capabilities = `{"resources":{"subscribe":true}}`
			s.changes = make(chan string)
			s.answers["resources/subscribe"] = func(request) string { return `{}` }
			var forgotten atomic.Bool
			s.before = func(w http.ResponseWriter, r *http.Request, _ request) bool {
				if !forgotten.Load() || r.Header.Get("Mcp-Session-Id") != "session-1" {
					return false
				}
				refuse(w)
				return true
			}
			c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
			heard := make(chan string, 4)
			session := c.NewSession(relay.SessionOptions{OnNotification: func(m rpc.Message) { heard <- string(m.Params.Of(m.Raw)) }})
			defer session.Close()
			if err := session.Subscribe(deadline(t, 10*time.Second), "x://a"); err != nil {
				t.Fatal(err)
			}
			s.changes <- "notifications/message" // taken by the stream, which is open then
			if got := <-heard; got != "" {
				t.Errorf("heard %s", got)
			}
			forgotten.Store(true)
			s.changes <- "" // the stream ends
			select {
			case got := <-heard:
				if got != `{"uri":"x://a"}` {
					t.Errorf("heard %s", got)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the client hears nothing any more")
			}
			if s.count("resources/subscribe") != 2 || s.last("resources/subscribe").Header.Get("Mcp-Session-Id") != "session-2" {
				t.Errorf("subscribed %d times", s.count("resources/subscribe"))
			}
		})
	}
}

func TestSubscriptionsOfALegacyClientAtAModernBackend(t *testing.T) {
	say := make(chan string, 1)
	s, url := newModern(t, only("subscriptions/listen", func(w http.ResponseWriter, r *http.Request, m request) {
		event(w, data(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":%s}`, m.Params))
		select {
		case text := <-say:
			event(w, data("%s", text))
			<-r.Context().Done()
		case <-r.Context().Done():
		}
	}))
	s.capabilities = `{"resources":{"subscribe":true}}`
	c := newClient(t, url, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	heard := make(chan string, 1)
	session := c.NewSession(relay.SessionOptions{OnNotification: func(m rpc.Message) { heard <- string(m.Params.Of(m.Raw)) }})
	ctx := deadline(t, 10*time.Second)
	if err := session.Subscribe(ctx, "x://a"); err != nil {
		t.Fatal(err)
	}
	say <- `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x://a"}}`
	if got := <-heard; got != `{"uri":"x://a"}` {
		t.Errorf("heard %s", got)
	}
	session.Close()
}
