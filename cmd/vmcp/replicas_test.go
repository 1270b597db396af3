// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// asking serves an MCP server whose tool asks the user something, and returns its URL.
func asking(t *testing.T) string {
	t.Helper()
	server := mcp.NewServer(&mcp.Implementation{Name: "asking", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "ask"}, func(ctx context.Context, r *mcp.CallToolRequest, _ args) (*mcp.CallToolResult, any, error) {
		answer, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: "?"})
		if err != nil {
			return nil, nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: answer.Action}}}, nil, nil
	})
	ts := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil))
	t.Cleanup(func() {
		ts.CloseClientConnections()
		ts.Close()
	})
	return ts.URL
}

// addresses are n of loopback at which nobody listens.
func addresses(t *testing.T, n int) []string {
	t.Helper()
	free, listeners := make([]string, n), make([]net.Listener, n)
	for i := range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		free[i], listeners[i] = l.Addr().String(), l
	}
	for _, l := range listeners {
		l.Close()
	}
	return free
}

// said is an answer, whose lines are read as they come.
type said struct {
	status  int
	session string
	lines   *bufio.Scanner
}

// request sends a request of a session as a client of MCP 2025-11-25 does.
func request(t *testing.T, method, url, body string, headers ...string) said {
	t.Helper()
	r, err := http.NewRequestWithContext(testContext(t), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return said{response.StatusCode, response.Header.Get("Mcp-Session-Id"), bufio.NewScanner(response.Body)}
}

// event is the next event with content, and its id.
func event(t *testing.T, lines *bufio.Scanner) (id, data string) {
	t.Helper()
	for lines.Scan() {
		line := lines.Text()
		if text, ok := strings.CutPrefix(line, "id: "); ok {
			id = text
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok && data != "" {
			return id, data
		}
	}
	t.Fatalf("the stream ended: %v", lines.Err())
	return "", ""
}

// twins are two processes of one gateway, and a session of it.
type twins struct {
	t         *testing.T
	processes []*process
	urls      []string
	session   string
}

func startTwins(t *testing.T) *twins {
	t.Helper()
	keys := t.TempDir()
	if err := os.WriteFile(filepath.Join(keys, "current"), bytes.Repeat([]byte{1}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	file, peers := manifests(t, map[string]string{"human": asking(t)}), addresses(t, 2)
	w := &twins{t: t}
	for _, at := range peers {
		p := start(t, "serve", "-f", file, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
			"--peer-listen", at, "--peers", strings.Join(peers, ","), "--session-keys-dir", keys)
		w.processes = append(w.processes, p)
		w.urls = append(w.urls, p.find(t, `endpoint  (http://\S+)`))
		ready(t, p.find(t, `admin     (http://[^/]+)`))
	}
	w.session = request(t, http.MethodPost, w.urls[0], `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",`+
		`"capabilities":{"elicitation":{}},"clientInfo":{"name":"test","version":"1"}}}`).session
	return w
}

// ask begins a call at the first process, in which its backend asks something.
func (w *twins) ask(id string) (lines *bufio.Scanner, last, question string) {
	w.t.Helper()
	lines = request(w.t, http.MethodPost, w.urls[0], `{"jsonrpc":"2.0","id":"`+id+`","method":"tools/call","params":{"name":"human_ask","arguments":{"text":""}}}`,
		"Mcp-Session-Id", w.session).lines
	last, data := event(w.t, lines)
	var m struct{ ID, Method string }
	if err := json.Unmarshal([]byte(data), &m); err != nil || m.Method != "elicitation/create" {
		w.t.Fatalf("%s: %v", data, err)
	}
	return lines, last, m.ID
}

// answer answers what was asked at the second process, and returns the status.
func (w *twins) answer(question string) int {
	w.t.Helper()
	return request(w.t, http.MethodPost, w.urls[1], `{"jsonrpc":"2.0","id":"`+question+`","result":{"action":"decline"}}`, "Mcp-Session-Id", w.session).status
}

// expectAnswered answers what was asked at the second process, and waits until the call ends with that.
func (w *twins) expectAnswered(lines *bufio.Scanner, question string) {
	w.t.Helper()
	for tries := 0; w.answer(question) != http.StatusAccepted; tries++ { // a machine that is very busy looks like a replica that is gone
		if tries > 1000 {
			w.t.Fatal("the answer does not reach the replica that asks")
		}
	}
	if _, data := event(w.t, lines); !strings.Contains(data, `"decline"`) {
		w.t.Errorf("the call ends with %s", data)
	}
}

// TestReplicas: a question that one process asks is answered at the other, and when one is killed, whoever waits for it hears so at the other
// at once.
func TestReplicas(t *testing.T) {
	t.Parallel()
	w := startTwins(t)
	lines, _, question := w.ask("first")
	w.expectAnswered(lines, question)

	_, last, question := w.ask("second")
	if err := w.processes[0].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-w.processes[0].exited
	begin := time.Now()
	lines = request(t, http.MethodGet, w.urls[1], "", "Mcp-Session-Id", w.session, "Last-Event-ID", last).lines
	if _, data := event(t, lines); !strings.HasPrefix(data, `{"jsonrpc":"2.0","id":"second","error":{"code":-32603,`) {
		t.Errorf("the call whose replica is gone ends with %s", data)
	}
	if status := w.answer(question); status != http.StatusBadRequest {
		t.Errorf("the answer for the replica that is gone: %d", status)
	}
	if took := time.Since(begin); took > 1500*time.Millisecond {
		t.Errorf("that took %s", took)
	}
	if status := request(t, http.MethodPost, w.urls[1], `{"jsonrpc":"2.0","id":1,"method":"ping"}`, "Mcp-Session-Id", w.session).status; status != http.StatusOK {
		t.Errorf("the session ended with it: %d", status)
	}
	if code, _ := w.processes[1].terminate(t); code != 0 {
		t.Errorf("the other one ends with %d", code)
	}
}

// TestReplicaThatDrains gets the answers for its calls from the other one until it has ended them.
func TestReplicaThatDrains(t *testing.T) {
	t.Parallel()
	w := startTwins(t)
	lines, _, question := w.ask("one")
	going := w.processes[0]
	if err := going.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	going.find(t, `Shutting down`)
	w.expectAnswered(lines, question)
	select {
	case <-going.exited:
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	if code := going.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("it ends with %d", code)
	}
}

// ready waits until a replica is.
func ready(t *testing.T, admin string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ctx := testContext(t); ; {
		response, err := http.Get(admin + "/readyz")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the replica is not ready")
		}
	}
}
