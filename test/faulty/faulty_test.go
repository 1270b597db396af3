// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package faulty

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/test/process"
)

const (
	waitLimit = 10 * time.Second
	ping      = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	call      = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"here"}}`
)

// TestCounts asks a server that answers nobody three things at a time, of which one is a call.
func TestCounts(t *testing.T) {
	s := newServer(false)
	s.behaviour = Behaviour{Delay: time.Hour}
	endpoint, control := httptest.NewServer(s.counted(s.faulty(s.handler()))), httptest.NewServer(s.controls())
	defer endpoint.Close()
	defer control.Close()
	var group sync.WaitGroup
	for _, body := range []string{ping, ping, call} {
		group.Go(func() { post(t, endpoint.URL, body) })
	}
	want := Counts{Requests: map[string]int{"ping": 2, "tools/call": 1}, Most: 2}
	await(t, "all requests to be counted", func() bool {
		got := countsAt(t, control.URL)
		return got.Requests["ping"] == want.Requests["ping"] && got.Requests["tools/call"] == want.Requests["tools/call"]
	})
	put(t, control.URL, Behaviour{})
	group.Wait()
	for range 3 {
		post(t, endpoint.URL, ping) // one after the other
	}
	if got := countsAt(t, control.URL); got.Most != want.Most || got.Requests["ping"] != 5 {
		t.Errorf("the server counted %+v, want 5 pings and %d at a time", got, want.Most)
	}
}

// TestAttendance has a server go away, come back, and do both by itself.
func TestAttendance(t *testing.T) {
	s := newServer(false)
	control := httptest.NewServer(s.controls())
	defer control.Close()
	address, err := process.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.attend(ctx, address, s.handler()) }()
	reachable := func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	}
	gone := func() bool { return !reachable() }
	await(t, "it to listen", reachable)
	put(t, control.URL, Behaviour{Down: true})
	await(t, "it to be gone", gone)
	put(t, control.URL, Behaviour{})
	await(t, "it to be back", reachable)
	put(t, control.URL, Behaviour{Flap: 20 * time.Millisecond})
	for range 3 {
		await(t, "it to go by itself", gone)
		await(t, "it to come back by itself", reachable)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if reachable() {
		t.Error("somebody listens after the end")
	}
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-ticker.C:
		}
	}
}

func post(t *testing.T, url, body string) {
	t.Helper()
	do(t, http.MethodPost, url, body, nil)
}

func put(t *testing.T, url string, b Behaviour) {
	t.Helper()
	body, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	do(t, http.MethodPut, url+BehaviourPath, string(body), nil)
}

func countsAt(t *testing.T, url string) (c Counts) {
	t.Helper()
	do(t, http.MethodGet, url+CountsPath, "", &c)
	return c
}

func do(t *testing.T, method, url, body string, into any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	request.Header.Set("Accept", "application/json, text/event-stream")
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Error(err)
		return
	}
	defer response.Body.Close()
	if into == nil {
		return
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		t.Error(err)
	}
}
