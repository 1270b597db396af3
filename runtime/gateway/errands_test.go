// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/peer"
)

// busyBackend is a backend that takes its first settings in when it is released. begun gets a value for each that reached it.
type busyBackend struct {
	*fake
	begun   chan struct{}
	release chan struct{}
}

func newBusyBackend(settings int32, exchange exchangeFunc) *busyBackend {
	b := &busyBackend{begun: make(chan struct{}, 100), release: make(chan struct{})}
	var begun atomic.Int32
	b.fake = &fake{exchange: exchange, settle: func(ctx context.Context) {
		b.begun <- struct{}{}
		if begun.Add(1) > settings {
			return
		}
		select {
		case <-b.release:
		case <-ctx.Done():
		}
	}}
	return b
}

// reached waits for the next setting to reach the backend.
func (b *busyBackend) reached(t *testing.T) {
	t.Helper()
	select {
	case <-b.begun:
	case <-time.After(10 * time.Second):
		t.Fatal("no setting reached the backend")
	}
}

// busyReplicas are two replicas, of which the first one's backend is busy.
func busyReplicas(t *testing.T, b *busyBackend, limits gateway.Limits) []*replica {
	t.Helper()
	prompt := &fake{exchange: respond(`"result":{"content":[]}`)}
	return startPatient(t, 2, 2*time.Second, func(i int) gateway.Options {
		return gateway.Options{Upstreams: []only{{b}, {prompt}}[i], Limits: limits}
	})
}

// TestBusyBackendIsNoDeadReplica: a setting is passed on to a replica whose backend is long about it. The client goes on with both
// replicas meanwhile.
func TestBusyBackendIsNoDeadReplica(t *testing.T) {
	for method, params := range map[string]string{"resources/subscribe": `"uri":"file:///readme"`, "logging/setLevel": `"level":"debug"`} {
		t.Run(method, func(t *testing.T) {
			b := newBusyBackend(1, asker("elicitation/create"))
			r := busyReplicas(t, b, gateway.Limits{})
			c := r[0].as(legacy, `{"elicitation":{}}`)
			standing := c.get("")
			waiting := c.stream("1", "tools/call", `"name":"docs_search"`, "")
			e, _ := waiting.next()
			question := parsed(e.data)
			if _, body := c.at(r[1]).do("2", method, params, ""); !strings.Contains(body, `"result":{}`) {
				t.Errorf("the setting: %s", body)
			}
			b.reached(t)
			response := c.at(r[1]).say(`{"jsonrpc":"2.0","id":` + string(question.ID.Of(question.Raw)) + `,"result":{"n":7}}`)
			if response.StatusCode != http.StatusAccepted {
				t.Errorf("answering a question: %s", response.Status)
				c.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`) // it would wait for ever
			} else if got := waiting.rest(); len(got) != 1 || !strings.Contains(got[0], `"reply":{"n":7}`) {
				t.Errorf("the call ends with %q", got)
			}
			if got := b.opened()[0].told(); len(got) > 0 {
				t.Errorf("the backend was not busy: it was told %q", got)
			}
			close(b.release)
			eventually(t, "the backend was told", func() bool { return len(b.opened()[0].told()) == 1 })
			if method != "resources/subscribe" {
				return
			}
			// It was not subscribed to yet when the client was told so.
			if e, _ := standing.next(); e.data != `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///readme"}}` {
				t.Errorf("heard %s", e.data)
			}
		})
	}
}

// TestSettingsKeepTheirOrder: a backend that is long about one of them is told the last of all in the end, of each thing that can be set.
func TestSettingsKeepTheirOrder(t *testing.T) {
	b := newBusyBackend(2, respond(`"result":{"content":[]}`))
	r := busyReplicas(t, b, gateway.Limits{})
	c := r[0].as(legacy, `{}`)
	c.do("1", "tools/call", `"name":"docs_search"`, "")
	set := func(at *replica, method, params string) {
		t.Helper()
		if _, body := c.at(at).do("2", method, params, ""); !strings.Contains(body, `"result":{}`) {
			t.Errorf("%s %s: %s", method, params, body)
		}
	}
	set(r[1], "logging/setLevel", `"level":"debug"`)
	b.reached(t)
	set(r[1], "resources/subscribe", `"uri":"file:///readme"`)
	b.reached(t)
	set(r[1], "logging/setLevel", `"level":"warning"`)
	set(r[1], "logging/setLevel", `"level":"error"`)
	set(r[1], "resources/unsubscribe", `"uri":"file:///readme"`)
	told := b.opened()[0].told
	if got := told(); len(got) > 0 {
		t.Errorf("the backend was not busy: it was told %q", got)
	}
	close(b.release)
	of := func(setting string) []string {
		return slices.DeleteFunc(told(), func(s string) bool { return !strings.Contains(s, setting) })
	}
	for setting, want := range map[string][]string{
		"level":  {"level debug", "level error"}, // the one between is old
		"readme": {"subscribe file:///readme", "unsubscribe file:///readme"},
	} {
		eventually(t, "the backend was told the last "+setting, func() bool { return slices.Equal(of(setting), want) })
	}
}

// TestWhatIsSetHereComesLast: after what was set at another replica before, about which the backend is long.
func TestWhatIsSetHereComesLast(t *testing.T) {
	b := newBusyBackend(2, respond(`"result":{"content":[]}`))
	r := busyReplicas(t, b, gateway.Limits{})
	c := r[0].as(legacy, `{}`)
	c.do("1", "tools/call", `"name":"docs_search"`, "")
	c.at(r[1]).do("2", "logging/setLevel", `"level":"debug"`, "")
	c.at(r[1]).do("3", "resources/subscribe", `"uri":"file:///readme"`, "")
	b.reached(t)
	b.reached(t)
	done := make(chan struct{}, 2)
	for method, params := range map[string]string{"logging/setLevel": `"level":"error"`, "resources/unsubscribe": `"uri":"file:///readme"`} {
		go func() {
			defer func() { done <- struct{}{} }()
			if _, body := c.do("4", method, params, ""); !strings.Contains(body, `"result":{}`) {
				t.Errorf("%s: %s", method, body)
			}
		}()
	}
	eventually(t, "it is set here", func() bool {
		all := r[1].peers.Ask(t.Context(), &peer.Message{Method: http.MethodGet, Path: "/session", Header: http.Header{
			"Mcp-Session-Id": {c.session}, "Vmcp-Principal": {"YWxpY2U"},
		}})
		return len(all) == 1 && string(all[0]) == `{"level":"error"}`
	})
	close(b.release)
	<-done
	<-done
	got := b.opened()[0].told()
	for before, last := range map[string]string{"level debug": "level error", "subscribe file:///readme": "unsubscribe file:///readme"} {
		if i, j := slices.Index(got, before), slices.Index(got, last); i < 0 || j < i {
			t.Errorf("the backend was told %q", got)
		}
	}
}

// TestErrandsAreBounded: a client that sets one thing after another makes a backend that is long about them owe no more than so much.
func TestErrandsAreBounded(t *testing.T) {
	b := newBusyBackend(2, respond(`"result":{"content":[]}`))
	r := busyReplicas(t, b, gateway.Limits{Subscriptions: 1})
	for _, one := range r {
		one.SetSnapshot(snapshot(backend.Inventory{
			Tools:     items("name", `{"name":"search","inputSchema":{"type":"object"}}`),
			Resources: items("uri", `{"uri":"file:///first"}`, `{"uri":"file:///second"}`),
		}))
	}
	c := r[0].as(legacy, `{}`)
	c.do("1", "tools/call", `"name":"docs_search"`, "")
	set := func(method, params string) {
		t.Helper()
		if _, body := c.at(r[1]).do("2", method, params, ""); !strings.Contains(body, `"result":{}`) {
			t.Errorf("%s %s: %s", method, params, body)
		}
	}
	set("logging/setLevel", `"level":"debug"`)
	b.reached(t)
	set("resources/subscribe", `"uri":"file:///first"`)
	b.reached(t)
	set("resources/unsubscribe", `"uri":"file:///first"`)
	set("resources/subscribe", `"uri":"file:///second"`) // which is one too many
	close(b.release)
	told := b.opened()[0].told
	eventually(t, "the backend was told what it owed", func() bool { return len(told()) == 3 })
	set("resources/unsubscribe", `"uri":"file:///second"`)
	eventually(t, "it is told what comes then", func() bool { return slices.Contains(told(), "unsubscribe file:///second") })
	if got := told(); slices.Contains(got, "subscribe file:///second") {
		t.Errorf("the backend was told %q", got)
	}
}

// TestEndCutsErrands: a gateway that ends does not wait for backends that are long about what was set.
func TestEndCutsErrands(t *testing.T) {
	b := newBusyBackend(2, respond(`"result":{"content":[]}`))
	r := busyReplicas(t, b, gateway.Limits{})
	c := r[0].as(legacy, `{}`)
	c.do("1", "tools/call", `"name":"docs_search"`, "")
	c.at(r[1]).do("2", "logging/setLevel", `"level":"debug"`, "")
	b.reached(t)
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := r[0].Gateway.Close(ctx); err != nil || time.Since(begin) > 3*time.Second {
		t.Errorf("%v after %s", err, time.Since(begin))
	}
	if got := b.opened()[0].told(); len(got) > 0 {
		t.Errorf("the backend was told %q", got)
	}
}
