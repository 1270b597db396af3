//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

const (
	// toldWithin is within what time clients are told of a backend that joins or leaves, and see the right list.
	toldWithin = 5 * time.Second
	// reportedWithin is within what time the status says so: a report waits until 5 s after the one before.
	reportedWithin = 10 * time.Second
	// calmFor is how long nobody is told anything else afterwards.
	calmFor = 3 * time.Second
)

// TestJoinAndLeave has a third backend join a group and leave it while a client of each era is connected: both are told, once each time,
// and what they list is right, without a new connection.
func TestJoinAndLeave(t *testing.T) {
	t.Parallel()
	x := over(t, "joins", v1alpha1.PhaseReady, kubernetesServer.as("joins-first"), everythingServer.as("joins-second"))
	listeners := listen(t, "joins")
	joins(t, x, listeners, "joins-third", filesServer.as("joins-third").manifest("joins"))
	leaves(t, x, listeners, "joins-third", "delete", "mcpbackend", "joins-third")
}

// labelled is a Service of two ports that becomes a member by a label.
const labelled = `
apiVersion: v1
kind: Service
metadata: {name: wiki, annotations: {vmcp.dev/port: web, vmcp.dev/path: /mcp}}
spec:
  selector: {app.kubernetes.io/name: everything}
  ports: [{name: web, port: 8888, targetPort: mcp}, {name: other, port: 9999, targetPort: 9999}]
`

// TestLabelledService has a Service join a group by a label, and leave it without: its tools come and go with the label.
func TestLabelledService(t *testing.T) {
	t.Parallel()
	apply(t, labelled)
	x := over(t, "labelled", v1alpha1.PhaseReady, kubernetesServer.as("labelled-first"))
	listeners := listen(t, "labelled")
	must(t, "label", "service", "wiki", v1alpha1.GroupLabel+"=labelled")
	// A label means nothing before the group says so, and then it does.
	joins(t, x, listeners, "wiki", `
apiVersion: vmcp.dev/v1alpha1
kind: MCPGroup
metadata: {name: labelled}
spec: {discovery: {services: Labelled}}
`)
	leaves(t, x, listeners, "wiki", "label", "service", "wiki", v1alpha1.GroupLabel+"-")
	joined := time.Now()
	must(t, "label", "service", "wiki", v1alpha1.GroupLabel+"=labelled")
	listeners.follow(t, joined, "Service labelled", "wiki", true)
}

// joins applies what makes a backend join, and waits until everybody knows.
func joins(t *testing.T, x *subject, listeners listeners, backend, manifest string) {
	t.Helper()
	at := time.Now()
	if _, err := kubectl.RunInput(t.Context(), manifest, "--namespace", namespace, "apply", "--server-side", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	cleanUp(t, "removing "+backend, func(ctx context.Context) error {
		_, err := kubectl.RunInput(ctx, manifest, "--namespace", namespace, "delete", "--ignore-not-found", "-f", "-")
		return err
	})
	listeners.follow(t, at, "backend joins", backend, true)
	reported := x.await(t, at, startLimit, backend+" to be reported", func(s *v1alpha1.VirtualMCPServer) error {
		for _, b := range s.Status.DiscoveredBackends {
			if b.Name == backend && b.Status == v1alpha1.BackendReady {
				return nil
			}
		}
		return fmt.Errorf("backends are %+v", s.Status.DiscoveredBackends)
	})
	measure(t, "backend joins", "the status has it", reportedWithin, reported.At.Sub(at))
}

// leaves runs kubectl to make a backend leave, and waits until everybody knows.
func leaves(t *testing.T, x *subject, listeners listeners, backend string, args ...string) {
	t.Helper()
	at := time.Now()
	must(t, args...)
	listeners.follow(t, at, "backend leaves", backend, false)
	reported := x.await(t, at, startLimit, backend+" to be reported no more", func(s *v1alpha1.VirtualMCPServer) error {
		for _, b := range s.Status.DiscoveredBackends {
			if b.Name == backend {
				return fmt.Errorf("it is reported as %+v", b)
			}
		}
		return nil
	})
	measure(t, "backend leaves", "the status has it no more", reportedWithin, reported.At.Sub(at))
}

// listener is a client of the official Go SDK that hears of changes: in the older revisions on the stream of a GET, in the newest one on
// that of subscriptions/listen.
type listener struct {
	version string
	session *mcp.ClientSession
	told    atomic.Int64
	first   atomic.Pointer[time.Time] // when it was told for the first time since a change
	opened  atomic.Int64              // streams that were opened to hear of changes
	begun   atomic.Int64              // handshakes
}

type listeners []*listener

// listen connects a client of each era to a gateway.
func listen(t *testing.T, name string) listeners {
	t.Helper()
	var all listeners
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		l := &listener{version: version}
		client := mcp.NewClient(&mcp.Implementation{Name: "vmcp-e2e", Version: "1"}, &mcp.ClientOptions{
			ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) {
				l.first.CompareAndSwap(nil, new(time.Now()))
				l.told.Add(1)
			},
		})
		var err error
		l.session, err = client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: clusterEndpoint(t, name), HTTPClient: &http.Client{Transport: l}},
			&mcp.ClientSessionOptions{ProtocolVersion: version})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.session.Close() }) // its streams end with it
		if got := l.session.InitializeResult().ProtocolVersion; got != version {
			t.Fatalf("the client and the gateway agreed on revision %s, want %s", got, version)
		}
		eventually(t, changeLimit, "waiting for the stream of a client of "+version, func(context.Context) error {
			if l.opened.Load() != 1 {
				return fmt.Errorf("%d are open", l.opened.Load())
			}
			return nil
		})
		all = append(all, l)
	}
	return all
}

// RoundTrip counts streams that tell of changes, and handshakes.
func (l *listener) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("asking the gateway: %w", err)
	}
	method := r.Header.Get("Mcp-Method")
	switch {
	case response.StatusCode != http.StatusOK:
	case r.Method == http.MethodGet || method == "subscriptions/listen":
		l.opened.Add(1)
	case r.Method == http.MethodPost && (method == "server/discover" || method == "" && r.Header.Get("Mcp-Session-Id") == ""):
		l.begun.Add(1)
	}
	return response, nil
}

// follow waits until every client is told of a change that was begun at a moment, once, and lists what is right.
func (ls listeners) follow(t *testing.T, at time.Time, change, backend string, wanted bool) {
	t.Helper()
	var group sync.WaitGroup
	for _, l := range ls {
		group.Go(func() {
			var told *time.Time
			err := harness.WaitFor(t.Context(), changeLimit, "waiting for the list of a client of "+l.version, func(ctx context.Context) error {
				told = l.first.Load()
				names, err := harness.ToolNames(ctx, l.session)
				switch {
				case err != nil:
					return err
				case slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, backend+"_") }) != wanted:
					return fmt.Errorf("%q are listed", names)
				case told == nil:
					return errors.New("it was not told")
				default:
					return nil
				}
			})
			if err != nil {
				t.Error(err)
				return
			}
			measure(t, change, "a client of "+l.version+" is told", toldWithin, told.Sub(at))
			measure(t, change, "a client of "+l.version+" lists what is right", toldWithin, time.Since(at))
		})
	}
	group.Wait()
	// A second word would come at once.
	calm, cancel := context.WithTimeout(t.Context(), calmFor)
	defer cancel()
	<-calm.Done()
	for _, l := range ls {
		t.Logf("%s: a client of %s was told %d times, over %d stream(s) and %d handshake(s)", change, l.version, l.told.Load(), l.opened.Load(), l.begun.Load())
		l.first.Store(nil)
		if n := l.told.Swap(0); n != 1 {
			t.Errorf("%s: a client of %s was told %d times, want once", change, l.version, n)
		}
		if l.opened.Load() != 1 || l.begun.Load() != 1 {
			t.Errorf("%s: the client of %s connected anew: %d streams, %d handshakes", change, l.version, l.opened.Load(), l.begun.Load())
		}
	}
}
