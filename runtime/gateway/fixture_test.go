// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/catalog"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	legacy = "2025-11-25"
	modern = "2026-07-28"
)

var docs = backend.Key{Kind: v1alpha1.KindMCPBackend, Name: "docs"}

// snapshot is a catalog of one backend, docs, from descriptions in JSON.
func snapshot(inventory backend.Inventory) *catalog.Snapshot {
	return catalog.Build([]catalog.Member{{Key: docs, Inventory: &inventory}}, v1alpha1.Aggregation{})
}

func items(field string, descriptions ...string) []backend.Item {
	var out []backend.Item
	for _, d := range descriptions {
		var object map[string]any
		if err := json.Unmarshal([]byte(d), &object); err != nil {
			panic(err)
		}
		out = append(out, backend.Item{ID: fmt.Sprint(object[field]), Raw: json.RawMessage(d)})
	}
	return out
}

// standard offers one of everything.
func standard() *catalog.Snapshot {
	return snapshot(backend.Inventory{
		Tools:     items("name", `{"name":"search","inputSchema":{"type":"object"}}`),
		Prompts:   items("name", `{"name":"greet"}`),
		Resources: items("uri", `{"uri":"file:///readme","name":"readme"}`),
		Templates: items("uriTemplate", `{"uriTemplate":"db://{table}","name":"rows"}`),
	})
}

// fixture is a gateway on loopback.
type fixture struct {
	*gateway.Gateway
	*httptest.Server
	t      *testing.T
	client *http.Client // nil means the default one
}

// send is Do of the client.
func (f *fixture) send(r *http.Request) (*http.Response, error) {
	if f.client != nil {
		return f.client.Do(r)
	}
	return http.DefaultClient.Do(r)
}

func start(t *testing.T, o gateway.Options) *fixture {
	t.Helper()
	if o.Upstreams == nil {
		o.Upstreams = answer(`{"content":[]}`)
	}
	if o.Name == "" {
		o.Name, o.Version = "team", "v1"
	}
	g := gateway.New(o)
	g.SetSnapshot(standard())
	s := httptest.NewServer(g.Handler())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := g.Close(ctx); err != nil {
			t.Errorf("closing the gateway: %v", err)
		}
		s.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return &fixture{Gateway: g, Server: s, t: t}
}

func (f *fixture) endpoint() string { return f.URL + gateway.Path }

// answered is the head of an answer.
type answered struct {
	Proto      string
	Status     string
	StatusCode int
	Header     http.Header
}

// do sends a request with headers in pairs, and reads the whole answer.
func (f *fixture) do(method, path, body string, headers ...string) (answered, string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, f.URL+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := f.send(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return answered{response.Proto, response.Status, response.StatusCode, response.Header}, string(read)
}

// initialize opens a session and returns its id.
func (f *fixture) initialize() string {
	f.t.Helper()
	response, body := f.do(http.MethodPost, gateway.Path, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":`+
		`{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`)
	id := response.Header.Get("Mcp-Session-Id")
	if response.StatusCode != http.StatusOK || id == "" {
		f.t.Fatalf("initialize: %s %s", response.Status, body)
	}
	return id
}

// message is a JSON-RPC response.
type message struct {
	ID     json.RawMessage `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Code    int             `json:"code"`
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data"`
	} `json:"error"`
	status int
}

// ask sends one request as a client of an era does, and decodes the answer, be it JSON or a stream.
func (f *fixture) ask(era, method, params string) message {
	f.t.Helper()
	object := map[string]json.RawMessage{}
	if err := json.Unmarshal([]byte(params), &object); err != nil {
		f.t.Fatal(err)
	}
	headers := []string{"Mcp-Protocol-Version", era}
	if era == modern {
		meta := map[string]any{}
		if raw, ok := object["_meta"]; ok {
			if err := json.Unmarshal(raw, &meta); err != nil {
				f.t.Fatal(err)
			}
		}
		meta["io.modelcontextprotocol/protocolVersion"] = modern
		meta["io.modelcontextprotocol/clientCapabilities"] = struct{}{}
		object["_meta"] = encode(meta)
		headers = append(headers, "Mcp-Method", method)
		var named struct{ Name, URI string }
		if err := json.Unmarshal([]byte(params), &named); err == nil && named.Name+named.URI != "" {
			headers = append(headers, "Mcp-Name", named.Name+named.URI)
		}
	} else {
		headers = append(headers, "Mcp-Session-Id", f.initialize())
	}
	body := encode(map[string]any{"jsonrpc": "2.0", "id": "req-1", "method": method, "params": object})
	response, answer := f.do(http.MethodPost, gateway.Path, string(body), headers...)
	data := []byte(answer)
	if strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		events := bytes.Split(bytes.TrimSpace(data), []byte("\n\n"))
		_, data, _ = bytes.Cut(events[len(events)-1], []byte("data: "))
	}
	m := message{status: response.StatusCode}
	if err := json.Unmarshal(data, &m); err != nil {
		f.t.Fatalf("%s %s: %s %s: %v", era, method, response.Status, answer, err)
	}
	return m
}

func encode(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}

// eventually waits for a condition that something else brings about.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("it did not happen that %s", what)
		}
	}
}

// eras runs a test as a client of each era.
func eras(t *testing.T, test func(t *testing.T, era string)) {
	t.Helper()
	for _, era := range []string{legacy, modern} {
		t.Run(era, func(t *testing.T) { test(t, era) })
	}
}
