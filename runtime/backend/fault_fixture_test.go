// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/health"
)

// faultCase is a real server, or the want of one, and what is to be said of it.
type faultCase struct {
	server  func(t *testing.T) string // returns a base URL
	reason  string
	message string // part of it; BASE stands for the base URL
}

// answered are the reasons of backends that answered, or were given time to.
var answered = []string{
	v1alpha1.ReasonUnauthorized, v1alpha1.ReasonTimeout, v1alpha1.ReasonServerError, v1alpha1.ReasonRedirected, v1alpha1.ReasonNotMCP,
	v1alpha1.ReasonUnsupportedVersion, v1alpha1.ReasonProtocolError,
}

// expect has a client of the server at base find the failure.
func (f faultCase) expect(t *testing.T, base string, c *backend.Client) {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	patience := 5 * time.Second
	if f.reason == v1alpha1.ReasonTimeout {
		patience = 200 * time.Millisecond // which is as good
	}
	err = c.Probe(deadline(t, patience))
	if err == nil {
		t.Fatal("the probe succeeded")
	}
	fault := c.Classify(err)
	if fault.Reason != f.reason {
		t.Errorf("reason %s, want %s (%v)", fault.Reason, f.reason, err)
	}
	if want := strings.ReplaceAll(f.message, "BASE", base); !strings.Contains(fault.Message, want) {
		t.Errorf("message %q does not contain %q", fault.Message, want)
	}
	if fault.Unreachable == slices.Contains(answered, f.reason) {
		t.Errorf("Unreachable = %v", fault.Unreachable)
	}
	for _, said := range []string{fault.Message, fault.Public} {
		if strings.Contains(said, "s3cr3t") || strings.Contains(said, "secret") || strings.ContainsAny(said, "\r\n") {
			t.Errorf("%q quotes too much", said)
		}
	}
	if !strings.Contains(fault.Public, `"docs"`) || strings.Contains(fault.Public, u.Host) || strings.Contains(fault.Public, "://") {
		t.Errorf("public message %q", fault.Public)
	}
	if got, want := statusAfter(fault), f.status(); got != want {
		t.Errorf("it makes the backend %s, want %s", got, want)
	}
}

func (f faultCase) status() v1alpha1.BackendStatus {
	if f.reason == v1alpha1.ReasonUnauthorized {
		return v1alpha1.BackendUnauthenticated
	}
	return v1alpha1.BackendUnavailable
}

// statusAfter is the status of a backend that fails in this way for a while.
func statusAfter(fault backend.Fault) v1alpha1.BackendStatus {
	outcome := health.Outcome{Event: health.ProbeFailed, Reason: fault.Reason, Message: fault.Message}
	if fault.Unauthorized {
		outcome.Event = health.ProbeUnauthorized
	}
	policy, now := health.DefaultPolicy(), time.Now()
	m := health.NewMachine(policy, now)
	for range policy.Threshold {
		m.Observe(now, outcome)
	}
	return m.Verdict().Status
}

// unused is a loopback address that nothing listens at.
func unused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// raw answers every connection with the same bytes, which need not be HTTP; none means to say nothing at all.
func raw(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buffer := make([]byte, 4096)
			_, _ = c.Read(buffer)
			if answer == "" {
				_, _ = io.Copy(io.Discard, c) // until the other side gives up
			}
			fmt.Fprint(c, answer)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "http://" + l.Addr().String()
}

func answering(status int, contentType, body string) func(t *testing.T) string {
	return func(t *testing.T) string {
		return serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}))
	}
}

func redirecting(to string, status int) func(t *testing.T) string {
	return func(t *testing.T) string {
		return serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, status) }))
	}
}
