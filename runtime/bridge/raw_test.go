// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package bridge_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// raw is a session spoken by hand.
type raw struct {
	f  *fixture
	id string
}

const initializeBody = `{"jsonrpc":"2.0","id":1,"method":"initialize",
	"params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`

func (f *fixture) open(t *testing.T) *raw {
	t.Helper()
	response := f.do(t, http.MethodPost, "", initializeBody, nil)
	if response.StatusCode != http.StatusOK || response.Header.Get("Mcp-Session-Id") == "" {
		t.Fatalf("initialize: status %d, %s", response.StatusCode, response.body)
	}
	r := &raw{f: f, id: response.Header.Get("Mcp-Session-Id")}
	if status, body := r.post(t, `{"jsonrpc":"2.0","method":"notifications/initialized"}`); status != http.StatusAccepted || body != "" {
		t.Fatalf("initialized: status %d, %q", status, body)
	}
	return r
}

type response struct {
	*http.Response
	body string
}

func (f *fixture) do(t *testing.T, method, session, body string, header map[string]string) response {
	t.Helper()
	req, err := http.NewRequestWithContext(testContext(t), method, f.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if session != "" {
		req.Header.Set("Mcp-Session-Id", session)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	res, err := f.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{res, string(data)}
}

func (r *raw) post(t *testing.T, body string) (int, string) {
	t.Helper()
	res := r.f.do(t, http.MethodPost, r.id, body, nil)
	return res.StatusCode, res.body
}

func (r *raw) pid(t *testing.T) int {
	t.Helper()
	_, body := r.post(t, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"pid","arguments":{}}}`)
	var answer struct {
		Result struct{ Content []struct{ Text string } }
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || len(answer.Result.Content) == 0 {
		t.Fatalf("pid gave %q, %v", body, err)
	}
	pid, err := strconv.Atoi(answer.Result.Content[0].Text)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// stream opens the GET stream.
func (r *raw) stream(t *testing.T) (io.ReadCloser, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.f.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Mcp-Session-Id", r.id)
	res, err := (&http.Client{Transport: r.f.http.Transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("GET: %s", res.Status)
	}
	return res.Body, cancel
}
