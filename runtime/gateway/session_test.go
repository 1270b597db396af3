// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
)

const (
	initializeBody = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":` +
		`{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`
	pingBody = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
)

func TestSessions(t *testing.T) {
	f := start(t, gateway.Options{Limits: gateway.Limits{Sessions: 2}})
	first, second := f.initialize(), f.initialize()
	if first == second || len(first) < 22 {
		t.Errorf("session ids %q and %q", first, second)
	}
	status := func(method, body string, headers ...string) int {
		response, _ := f.do(method, gateway.Path, body, headers...)
		return response.StatusCode
	}
	for _, step := range []struct {
		what      string
		got, want int
	}{
		{"one session too many", status(http.MethodPost, initializeBody), 503},
		{"known", status(http.MethodPost, pingBody, "Mcp-Session-Id", first), 200},
		{"missing", status(http.MethodPost, pingBody), 400},
		{"unknown", status(http.MethodPost, pingBody, "Mcp-Session-Id", "mcp-session-01234567-89ab-4def-8123-456789abcdef"), 404},
		{"an id that only mcp-go sees", status(http.MethodPost, pingBody, "Mcp-Session-Id", first+"/calls"), 404},
		{"stream of an unknown one", status(http.MethodGet, "", "Mcp-Session-Id", "unknown"), 404},
		{"end of an unknown one", status(http.MethodDelete, "", "Mcp-Session-Id", "unknown"), 404},
		{"end", status(http.MethodDelete, "", "Mcp-Session-Id", first), 200},
		{"ended", status(http.MethodPost, pingBody, "Mcp-Session-Id", first), 404},
		{"ended twice", status(http.MethodDelete, "", "Mcp-Session-Id", first), 404},
		{"room again", status(http.MethodPost, initializeBody), 200},
		{"the other lives", status(http.MethodPost, pingBody, "Mcp-Session-Id", second), 200},
	} {
		if step.got != step.want {
			t.Errorf("%s: %d, want %d", step.what, step.got, step.want)
		}
	}
}

// open opens the stream of a session and returns its events; the channel is closed when the stream ends.
func (f *fixture) open(ctx context.Context, session string) <-chan string {
	f.t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.endpoint(), http.NoBody)
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Mcp-Session-Id", session)
	response, err := http.DefaultClient.Do(r) //nolint:bodyclose // the goroutine closes it
	if err != nil {
		f.t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK || response.Header.Get("X-Accel-Buffering") != "no" {
		f.t.Fatalf("opening the stream: %s, %v", response.Status, response.Header)
	}
	events := make(chan string, 100)
	go func() {
		defer close(events)
		defer response.Body.Close()
		lines := bufio.NewScanner(response.Body)
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				events <- data
			}
		}
	}()
	return events
}

func (f *fixture) next(events <-chan string) string {
	f.t.Helper()
	patience := time.NewTimer(10 * time.Second)
	defer patience.Stop()
	select {
	case event, ok := <-events:
		if !ok {
			return "end"
		}
		return event
	case <-patience.C:
		f.t.Fatal("nothing came on the stream")
		return ""
	}
}

func TestStreamEndsWithItsSession(t *testing.T) {
	f := start(t, gateway.Options{})
	session := f.initialize()
	events := f.open(t.Context(), session)
	f.SetSnapshot(snapshot(backend.Inventory{Tools: items("name", `{"name":"search","inputSchema":{"type":"object"}}`),
		Prompts: items("name", `{"name":"greet"}`)}))
	if got, want := f.next(events), `{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}`; got != want {
		t.Errorf("heard %s, want %s", got, want)
	}
	if response, _ := f.do(http.MethodDelete, gateway.Path, "", "Mcp-Session-Id", session); response.StatusCode != http.StatusOK {
		t.Errorf("DELETE: %s", response.Status)
	}
	if got := f.next(events); got != "end" {
		t.Errorf("heard %s after the end", got)
	}
}

func TestHeartbeat(t *testing.T) {
	f := start(t, gateway.Options{Limits: gateway.Limits{Heartbeat: 10 * time.Millisecond}})
	events := f.open(t.Context(), f.initialize())
	for range 2 {
		if got := f.next(events); !strings.Contains(got, `"method":"ping"`) {
			t.Errorf("heard %s", got)
		}
	}
	f.CloseClientConnections()
}

func TestIdleSessionsExpire(t *testing.T) {
	const idle = 50 * time.Millisecond
	f := start(t, gateway.Options{Limits: gateway.Limits{SessionIdle: idle, Sessions: 2, Heartbeat: time.Hour}})
	streaming, quiet := f.initialize(), f.initialize()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := f.open(ctx, streaming)
	began := time.Now()
	eventually(t, "there is room for another session", func() bool {
		response, _ := f.do(http.MethodPost, gateway.Path, initializeBody)
		return response.StatusCode == http.StatusOK
	})
	if took := time.Since(began); took < idle-10*time.Millisecond {
		t.Errorf("a session expired after %v", took)
	}
	if response, _ := f.do(http.MethodPost, gateway.Path, pingBody, "Mcp-Session-Id", quiet); response.StatusCode != http.StatusNotFound {
		t.Errorf("the idle session: %s", response.Status)
	}
	if response, _ := f.do(http.MethodPost, gateway.Path, pingBody, "Mcp-Session-Id", streaming); response.StatusCode != http.StatusOK {
		t.Errorf("the session with a stream: %s", response.Status)
	}
	cancel()
	if got := f.next(events); got != "end" {
		t.Errorf("heard %s", got)
	}
}
