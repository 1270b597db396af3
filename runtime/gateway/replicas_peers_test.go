// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/peer"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

// TestOwnerIsGone: whoever waits for it hears so at once, and the session goes on.
func TestOwnerIsGone(t *testing.T) {
	var asked atomic.Bool
	stepwise := newStepwise()
	asking := asker("elicitation/create")
	r := startReplicas(t, 2, shared(exchanges(func(ctx context.Context, q *relay.Request, sink relay.Sink) (*relay.Answer, error) {
		if asked.Swap(true) {
			return asking(ctx, q, sink)
		}
		return stepwise.exchange(ctx, q, sink)
	})))
	c := r[0].as(legacy, `{"elicitation":{}}`)
	standing := c.get("")
	primed := <-standing.events
	last := c.lostStream(t, stepwise)
	waiting := c.stream(`"second"`, "tools/call", `"name":"docs_search"`, "")
	e, _ := waiting.next()
	question := parsed(e.data)
	r[0].kill()
	r[0].CloseClientConnections()

	begin := time.Now()
	s := c.at(r[1]).get(last)
	got := s.rest()
	if len(got) != 1 || !strings.HasPrefix(got[0], `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"the replica of the gateway that carried the request is gone`) {
		t.Errorf("resuming a call: %d %q", s.status, got)
	}
	response := c.at(r[1]).say(`{"jsonrpc":"2.0","id":` + string(question.ID.Of(question.Raw)) + `,"result":{}}`)
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("answering a question: %s", response.Status)
	}
	if s := c.at(r[1]).get(primed.id); s.status != http.StatusOK {
		t.Errorf("resuming the stream of the session: %d", s.status)
	}
	if took := time.Since(begin); took > goneWithin {
		t.Errorf("that took %s", took)
	}
	if response := c.at(r[1]).say(pingBody); response.StatusCode != http.StatusOK {
		t.Errorf("the session: %s", response.Status)
	}
	stepwise.steps <- -1
	c.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"second"}}`) // it would go on
}

// TestDrainingReplica: calls that end meanwhile are answered to clients that come back to another replica.
func TestDrainingReplica(t *testing.T) {
	b := newStepwise()
	r := startReplicas(t, 2, shared(exchanges(b.exchange)))
	c := r[0].as(legacy, `{}`)
	body, headers := c.request("1", "tools/call", `"name":"docs_search"`, `"progressToken":1`)
	opened := make(chan *streaming)
	go func() { opened <- r[0].stream(http.MethodPost, body, headers...) }()
	b.steps <- 1
	first, _ := (<-opened).next()
	closed := make(chan error)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		closed <- r[0].Gateway.Close(ctx)
	}()
	eventually(t, "the replica drains", func() bool {
		response, _ := r[0].do(http.MethodPost, gateway.Path, pingBody, "Mcp-Session-Id", c.session)
		return response.StatusCode == http.StatusServiceUnavailable
	})
	s := c.at(r[1]).get(first.id)
	b.steps <- 2
	if e, _ := s.next(); !strings.Contains(e.data, `"progress":2,`) {
		t.Errorf("heard %s", e.data)
	}
	b.steps <- -1
	if got := s.rest(); len(got) != 1 || !strings.Contains(got[0], `"result"`) {
		t.Errorf("the call ends with %q", got)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestForgedOwners: an id names a replica only if a replica has made it.
func TestForgedOwners(t *testing.T) {
	r := startReplicas(t, 2, shared(answer(`{"content":[]}`)))
	asked, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer asked.Close()
	content, err := peer.Replica{Address: netip.MustParseAddrPort(asked.Addr().String())}.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := r[0].as(legacy, `{}`)
	stranger := session.NewSealer("uid") // with a key of its own
	for name, owner := range map[string]string{
		"sealed with another key": stranger.Seal(session.PurposeReplica, "", content),
		"a session's id":          c.session,
		"not sealed":              string(content),
		"nothing":                 "",
	} {
		if response := c.say(`{"jsonrpc":"2.0","id":` + string(encode(owner+".abcdefghij-1")) + `,"result":{}}`); response.StatusCode != http.StatusAccepted {
			t.Errorf("answer, %s: %s", name, response.Status)
		}
		if name == "not sealed" {
			continue // no header
		}
		if got := c.get(owner + "..abcdefghij-1-1").status; got != http.StatusBadRequest {
			t.Errorf("event, %s: %d", name, got)
		}
	}
	for _, request := range []string{"!", "e30", "MS41", "bnVsbA", "Ig", "MQ=="} { // what no id of a request is: {}, 1.5, null, a quote
		if got := c.get("owner." + request + ".abcdefghij-1-1").status; got != http.StatusBadRequest {
			t.Errorf("event of the request %s: %d", request, got)
		}
	}
	_ = asked.(*net.TCPListener).SetDeadline(time.Now())
	if connection, err := asked.Accept(); err == nil {
		connection.Close()
		t.Error("a forged replica was connected to")
	}
}

// TestPeersBindThePrincipal: what one replica asks of another is for one client's session only.
func TestPeersBindThePrincipal(t *testing.T) {
	r := startReplicas(t, 2, func(int) gateway.Options {
		return gateway.Options{Principal: func(r *http.Request) string { return r.Header.Get("X-Test-User") }}
	})
	response, _ := r[0].do(http.MethodPost, gateway.Path, initializeBody, "X-Test-User", "alice")
	id := response.Header.Get("Mcp-Session-Id")
	for principal, want := range map[string]int{"YWxpY2U": http.StatusAccepted, "Ym9i": http.StatusNotFound, "": http.StatusNotFound, "!": http.StatusBadRequest} {
		got, err := r[1].peers.Send(t.Context(), r[0].peers.Self(), &peer.Message{
			Method: http.MethodPost, Path: gateway.Path, Header: http.Header{"Mcp-Session-Id": {id}, "Vmcp-Principal": {principal}},
			Body: []byte(`{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`),
		})
		if err != nil || got != want {
			t.Errorf("%q: %d, %v", principal, got, err)
		}
	}
	large := bytes.Repeat([]byte("x"), 5<<20)
	got, err := r[1].peers.Send(t.Context(), r[0].peers.Self(), &peer.Message{
		Method: http.MethodPost, Path: gateway.Path, Header: http.Header{"Mcp-Session-Id": {id}, "Vmcp-Principal": {"YWxpY2U"}}, Body: large,
	})
	if err == nil && got != http.StatusRequestEntityTooLarge {
		t.Errorf("5 MiB: %d, %v", got, err)
	}
}

// slowOwner is a replica that answers nothing before release is closed, and the id of an event that it has minted. asked gets a value for each
// request.
func slowOwner(t *testing.T) (event string, asked <-chan struct{}, release chan struct{}) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	group := peer.New(peer.Options{UID: "uid", Address: netip.MustParseAddrPort(listener.Addr().String())})
	if err := group.SetKeys(replicaKeys()); err != nil {
		t.Fatal(err)
	}
	reached := make(chan struct{}, 100)
	release = make(chan struct{})
	server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		reached <- struct{}{}
		<-release
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(tls.NewListener(listener, group.ServerTLS())) // until the test ends
	}()
	t.Cleanup(func() {
		_ = server.Close() // as above
		<-done
		group.Close()
	})
	sealer := session.NewSealer("uid")
	if err := sealer.SetKeys(replicaKeys()); err != nil {
		t.Fatal(err)
	}
	content, err := group.Self().AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return sealer.Seal(session.PurposeReplica, "", content) + ".MQ.abcdefghij-1-1", reached, release
}

// TestShutdownBeforeTheOwnerAnswers: a client that goes on with a call is not told that the call is lost, of which nothing is known, but to
// come back. One of a revision that knows such events hears so on the stream, since after a status it would not.
func TestShutdownBeforeTheOwnerAnswers(t *testing.T) {
	for version, want := range map[string]int{legacy: http.StatusOK, "2025-06-18": http.StatusServiceUnavailable} {
		t.Run(version, func(t *testing.T) {
			event, asked, release := slowOwner(t)
			defer close(release)
			r := startReplicas(t, 1, shared(answer(`{"content":[]}`)))
			c := r[0].as(version, `{}`)
			opened := make(chan *streaming)
			go func() { opened <- c.get(event) }()
			<-asked
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := r[0].Drain(ctx); err != nil {
				t.Error(err)
			}
			s := <-opened
			var heard []sse
			for e := range s.events {
				heard = append(heard, e)
			}
			if s.status != want {
				t.Errorf("resuming a call: %d %v", s.status, heard)
			}
			if want == http.StatusOK && (len(heard) != 1 || heard[0] != sse{id: event}) {
				t.Errorf("heard %v", heard)
			}
			if want != http.StatusOK && s.header.Get("Retry-After") != "1" {
				t.Errorf("answered with %v", s.header)
			}
		})
	}
}
