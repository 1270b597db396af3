// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vmcp-dev/vmcp-operator/runtime/peer"
	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is such that what is made to hang costs less than waiting for it several times, and that a busy machine does not look like it.
const patience = 3 * time.Second

// key is a session key that is told by its first byte.
func key(b byte) []byte { return bytes.Repeat([]byte{b}, session.KeySize) }

func keys(b byte) session.Keys { return session.Keys{Current: key(b)} }

// counted counts requests to other replicas.
type counted struct {
	mu sync.Mutex
	of map[string]int
}

func (c *counted) observe(operation, outcome string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[string]int{}
	}
	c.of[operation+" "+outcome]++
}

func (c *counted) get(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of[what]
}

// replica is a group of its own listener.
type replica struct {
	*peer.Group
	counted
	address string
	server  *http.Server
}

// serve starts a replica of gateway uid on loopback that knows others by names.
func serve(t *testing.T, uid string, k session.Keys, handler http.HandlerFunc, names ...string) *replica {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveAt(t, listener, uid, k, handler, names...)
}

func serveAt(t *testing.T, listener net.Listener, uid string, k session.Keys, handler http.HandlerFunc, names ...string) *replica {
	t.Helper()
	r := &replica{address: listener.Addr().String()}
	r.Group = peer.New(peer.Options{
		UID: uid, Address: netip.MustParseAddrPort(r.address), Replicas: names, Patience: patience, Observe: r.observe,
	})
	if len(k.Current) > 0 {
		if err := r.SetKeys(k); err != nil {
			t.Fatal(err)
		}
	}
	r.server = &http.Server{Handler: r.Handler(handler), ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.server.Serve(tls.NewListener(listener, r.ServerTLS())) // it ends with the test
	}()
	t.Cleanup(func() {
		_ = r.server.Close()
		<-done
		r.Close()
	})
	return r
}

func ok(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }

var message = &peer.Message{Method: http.MethodPost, Path: "/mcp", Header: http.Header{"Mcp-Session-Id": {"s"}}, Body: []byte("hi")}

func TestReplicasKnowEachOtherByTheirKeys(t *testing.T) {
	for name, c := range map[string]struct {
		uid  string
		keys session.Keys
		ok   bool
	}{
		"same key":                     {"u", keys(1), true},
		"theirs is our next one":       {"u", session.Keys{Previous: key(1), Current: key(2)}, true},
		"theirs was ours before":       {"u", session.Keys{Current: key(3), Next: key(1)}, true},
		"nothing in common":            {"u", keys(4), false},
		"they trust us, we not them":   {"u", session.Keys{Current: key(4), Previous: key(1)}, false},
		"we trust them, they not us":   {"u", session.Keys{Current: key(5), Previous: key(6)}, false},
		"another gateway of that keys": {"other", keys(1), false},
		"no keys yet":                  {"u", session.Keys{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			them := serve(t, c.uid, c.keys, func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				ok(w, r)
			})
			us := serve(t, "u", session.Keys{Current: key(1), Next: key(2), Previous: key(3)}, ok)
			status, err := us.Send(t.Context(), them.Self(), message)
			if c.ok && (err != nil || status != http.StatusAccepted || us.get("send success") != 1) {
				t.Errorf("%d, %v", status, err)
			}
			if !c.ok && (!errors.Is(err, peer.ErrGone) || asked.Load() != 0 || us.get("send gone") != 1) {
				t.Errorf("%d, %v, and %d requests were served", status, err, asked.Load())
			}
		})
	}
	t.Run("a key that goes", func(t *testing.T) {
		them, us := serve(t, "u", keys(1), ok), serve(t, "u", keys(1), ok)
		if _, err := us.Send(t.Context(), them.Self(), message); err != nil {
			t.Fatal(err)
		}
		if err := us.SetKeys(keys(2)); err != nil {
			t.Fatal(err)
		}
		if _, err := us.Send(t.Context(), them.Self(), message); !errors.Is(err, peer.ErrGone) {
			t.Errorf("with another key: %v", err)
		}
		if err := us.SetKeys(session.Keys{}); err == nil {
			t.Error("no keys are keys")
		}
	})
}

// TestStrangersAreRefused: without the keys, and with what somebody with the keys has said before.
func TestStrangersAreRefused(t *testing.T) {
	var asked atomic.Int32
	them := serve(t, "u", keys(1), func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		ok(w, r)
	})
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	forged := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}
	// The real certificate, which a stranger can have seen, without its private key.
	ringer := serve(t, "u", keys(1), ok)
	seen, err := ringer.ServerTLS().GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	stolen := []tls.Certificate{{Certificate: seen.Certificate, PrivateKey: private}}
	for name, config := range map[string]*tls.Config{
		"no certificate":          {},
		"a certificate of theirs": {Certificates: forged},
		"one that is not theirs":  {GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &stolen[0], nil }},
		"an old version of TLS":   {Certificates: []tls.Certificate{*seen}, MaxVersion: tls.VersionTLS12},
	} {
		config.InsecureSkipVerify = true
		transport := &http.Transport{TLSClientConfig: config}
		response, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Post("https://"+them.address+"/mcp", "", nil)
		if err == nil {
			response.Body.Close()
			t.Errorf("%s: %s", name, response.Status)
		}
		transport.CloseIdleConnections()
	}
	response, err := http.Post("http://"+them.address+"/mcp", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if asked.Load() != 0 {
		t.Errorf("%d requests of strangers were served, without TLS %s", asked.Load(), response.Status)
	}
	http.DefaultClient.CloseIdleConnections()

	// Without TLS around it the handler serves nobody.
	w := httptest.NewRecorder()
	them.Handler(http.HandlerFunc(ok)).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/mcp", nil))
	if w.Code != http.StatusForbidden {
		t.Errorf("without TLS: %d", w.Code)
	}
}

// TestReplay: what was said on the wire cannot be said again.
func TestReplay(t *testing.T) {
	var asked atomic.Int32
	them := serve(t, "u", keys(1), func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		ok(w, r)
	})
	// A wire that somebody listens at.
	wire, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	recorded := make(chan []byte, 1)
	go func() {
		client, err := wire.Accept()
		if err != nil {
			return
		}
		defer client.Close()
		server, err := net.Dial("tcp", them.address)
		if err != nil {
			return
		}
		defer server.Close()
		back := make(chan struct{})
		go func() {
			defer close(back)
			_, _ = io.Copy(client, server) // until one of them ends
			client.Close()
		}()
		var said bytes.Buffer
		_, _ = io.Copy(io.MultiWriter(server, &said), client) // as above
		server.Close()
		<-back
		recorded <- said.Bytes()
	}()
	us := serve(t, "u", keys(1), ok, wire.Addr().String())
	us.Tell(t.Context(), message)
	if asked.Load() != 1 {
		t.Fatalf("%d requests", asked.Load())
	}
	us.Close()
	said := <-recorded
	again, err := net.Dial("tcp", them.address)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	_ = again.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := again.Write(said); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, again) // until they hang up
	if asked.Load() != 1 {
		t.Error("what was said a second time was taken")
	}
}

func TestAnotherProcessAtTheAddress(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	before := serveAt(t, listener, "u", keys(1), ok)
	us := serve(t, "u", keys(1), ok)
	if _, err := us.Send(t.Context(), before.Self(), message); err != nil {
		t.Fatal(err)
	}
	_ = before.server.Close()
	begin := time.Now()
	if _, err := us.Send(t.Context(), before.Self(), message); !errors.Is(err, peer.ErrGone) || time.Since(begin) > patience/2 {
		t.Errorf("%v after %s", err, time.Since(begin))
	}
	if listener, err = net.Listen("tcp", before.address); err != nil {
		t.Fatal(err)
	}
	after := serveAt(t, listener, "u", keys(1), ok)
	if _, err := us.Send(t.Context(), before.Self(), message); !errors.Is(err, peer.ErrGone) {
		t.Errorf("the process at its address answers: %v", err)
	}
	if _, err := us.Send(t.Context(), after.Self(), message); err != nil {
		t.Errorf("that one itself: %v", err)
	}
}

func TestTellAndAsk(t *testing.T) {
	var mu sync.Mutex
	heard := map[string]string{}
	hear := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			mu.Lock()
			defer mu.Unlock()
			heard[name] += r.Method + r.URL.Path + r.Header.Get("Mcp-Session-Id") + string(body) + ";"
			_, _ = io.WriteString(w, name)
		}
	}
	a, b := serve(t, "u", keys(1), hear("a")), serve(t, "u", keys(1), hear("b"))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	// By a name that has itself behind it, too, and with somebody who is not there.
	us := serveAt(t, listener, "u", keys(1), hear("us"), "localhost:"+port, a.address, b.address, b.address, "127.0.0.1:1")
	us.Tell(t.Context(), message)
	mu.Lock()
	if want := "POST/mcpshi;"; heard["a"] != want || heard["b"] != want || heard["us"] != "" {
		t.Errorf("heard %v", heard)
	}
	mu.Unlock()
	all := us.Ask(t.Context(), &peer.Message{Method: http.MethodGet, Path: "/session"})
	if got := string(bytes.Join(all, nil)); got != "ab" && got != "ba" {
		t.Errorf("they answer %q", got)
	}
	if us.get("tell success") != 2 || us.get("tell gone") != 1 || us.get("ask success") != 2 {
		t.Errorf("counted %v", us.of)
	}
}

// TestReplicasThatHang cost time once, not with each message.
func TestReplicasThatHang(t *testing.T) {
	release := make(chan struct{})
	var told atomic.Int32
	hung := serve(t, "u", keys(1), func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		told.Add(1)
		<-release
	})
	us := serve(t, "u", keys(1), ok, hung.address)
	defer close(release)
	took := func(f func()) time.Duration {
		begin := time.Now()
		f()
		return time.Since(begin)
	}
	if d := took(func() { us.Tell(t.Context(), message) }); d < patience || d > 2*patience {
		t.Errorf("the first message took %s", d)
	}
	if d := took(func() {
		us.Tell(t.Context(), message)
		us.Ask(t.Context(), message)
		if _, err := us.Send(t.Context(), hung.Self(), message); !errors.Is(err, peer.ErrGone) {
			t.Errorf("sending to it: %v", err)
		}
	}); d > patience {
		t.Errorf("the next ones took %s", d)
	}
	us.Close() // what was not waited for
	if got := told.Load(); got != 2 {
		t.Errorf("it was told %d messages", got)
	}
}

func TestForward(t *testing.T) {
	more := make(chan string)
	var seen atomic.Pointer[http.Request]
	owner := serve(t, "u", keys(1), func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r)
		if r.Header.Get("Last-Event-ID") == "gone" {
			w.WriteHeader(http.StatusGone)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			select {
			case text, more := <-more:
				if !more {
					return
				}
				_, _ = io.WriteString(w, text+"\n") // the test sees it
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	us := serve(t, "u", keys(1), ok)
	ended := make(chan struct{})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := http.Header{"Last-Event-Id": {r.Header.Get("Last-Event-Id")}}
		if us.Forward(w, r, owner.Self(), h, ended) != nil {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	defer front.Close()
	get := func(last string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, front.URL+"/mcp", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Last-Event-ID", last)
		r.Header.Set("Authorization", "Bearer s3cret")
		response, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	defer http.DefaultClient.CloseIdleConnections()

	go func() { more <- "first" }()
	response := get("1")
	lines := bufio.NewScanner(response.Body)
	for _, text := range []string{"first", "second"} {
		if text != "first" {
			more <- text
		}
		if !lines.Scan() || lines.Text() != text {
			t.Fatalf("%q came for %q: %v", lines.Text(), text, lines.Err())
		}
	}
	if h := seen.Load().Header; h.Get("Authorization") != "" || seen.Load().URL.Path != "/mcp" {
		t.Errorf("the owner got %v", h)
	}
	_ = owner.server.Close() // as if it were killed
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("%q, %v at the end", lines.Text(), lines.Err())
	}
	response.Body.Close()

	begin := time.Now()
	response = get("2")
	response.Body.Close()
	if response.StatusCode != http.StatusTeapot || time.Since(begin) > patience/2 {
		t.Errorf("when the owner is gone: %s after %s", response.Status, time.Since(begin))
	}
}

func TestForwardEnds(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	owner := serve(t, "u", keys(1), func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Last-Event-ID") {
		case "forgotten":
			w.WriteHeader(http.StatusGone)
		case "hangs":
			<-release
		default:
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	})
	for name, c := range map[string]struct {
		gone bool
		most time.Duration
	}{"forgotten": {true, patience}, "ended": {false, patience}, "hangs": {true, 2 * patience}} {
		us := serve(t, "u", keys(1), ok)
		ended := make(chan struct{})
		begin := time.Now()
		w := httptest.NewRecorder()
		if name == "ended" {
			close(ended)
		}
		err := us.Forward(w, httptest.NewRequest(http.MethodGet, "/mcp", nil), owner.Self(), http.Header{"Last-Event-Id": {name}}, ended)
		if took := time.Since(begin); took > c.most || c.gone != errors.Is(err, peer.ErrGone) && name != "ended" {
			t.Errorf("%s: %v after %s", name, err, took)
		}
		if c.gone && (w.Body.Len() > 0 || w.Header().Get("Content-Type") != "") {
			t.Errorf("%s: something was answered: %s", name, w.Body)
		}
	}
}

// TestAddressesAreLookedUp once in a while, and those that were known are used while there is no answer.
func TestAddressesAreLookedUp(t *testing.T) {
	var told atomic.Int32
	them := serve(t, "u", keys(1), func(w http.ResponseWriter, r *http.Request) {
		told.Add(1)
		ok(w, r)
	})
	_, port, _ := net.SplitHostPort(them.address)
	var lookups atomic.Int32
	us := peer.New(peer.Options{
		UID: "u", Address: netip.MustParseAddrPort("127.0.0.2:1"), Replicas: []string{"mcp-peers-team.ns.svc:" + port},
		Lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			if host != "mcp-peers-team.ns.svc" {
				t.Errorf("looked up %s", host)
			}
			if lookups.Add(1) > 1 {
				return nil, errors.New("no DNS")
			}
			return []netip.Addr{netip.MustParseAddr("::ffff:127.0.0.1")}, nil
		},
	})
	defer us.Close()
	if err := us.SetKeys(keys(1)); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	n := int32(0)
	for ; lookups.Load() < 2 && time.Now().Before(deadline); n++ {
		us.Tell(t.Context(), message)
	}
	if lookups.Load() != 2 || n < 5 || told.Load() != n {
		t.Errorf("%d lookups for %d messages, of which %d were heard", lookups.Load(), n, told.Load())
	}
}

func TestReplicaIsCompact(t *testing.T) {
	for address, most := range map[string]int{"10.1.2.3:4485": 14, "[2001:db8::1]:4485": 26} {
		g := peer.New(peer.Options{UID: "u", Address: netip.MustParseAddrPort(address)})
		encoded, err := g.Self().AppendBinary(nil)
		if err != nil || len(encoded) > most {
			t.Errorf("%s: %d bytes, %v", address, len(encoded), err)
		}
		var decoded peer.Replica
		if err := decoded.UnmarshalBinary(encoded); err != nil || decoded != g.Self() {
			t.Errorf("%s: %v, %v", address, decoded, err)
		}
		for cut := range encoded[:8] {
			if decoded.UnmarshalBinary(encoded[:cut]) == nil {
				t.Errorf("%d bytes are a replica", cut)
			}
		}
	}
	for name, good := range map[string]bool{"a.ns.svc:4485": true, "[::1]:1": true, "a": false, ":1": false, "a:b": false, "a:99999": false} {
		if err := peer.CheckReplica(name); (err == nil) != good {
			t.Errorf("%s: %v", name, err)
		}
	}
	if strings.Contains(peer.ErrGone.Error(), ":") {
		t.Error("an address is told to clients")
	}
}
