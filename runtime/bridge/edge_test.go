// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package bridge_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/bridge"
)

func TestRefusals(t *testing.T) {
	t.Parallel()
	f := start(t, serverScripted, func(o *bridge.Options) { o.MaxMessageBytes = 1 << 10 })
	session := f.open(t).id
	const ping = `{"jsonrpc":"2.0","id":"a","method":"ping"}`
	modern := `{"jsonrpc":"2.0","id":7,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	for _, c := range []struct {
		name, method, session, body string
		header                      map[string]string
		status                      int
		want                        string
	}{
		{name: "origin", method: "POST", session: session, body: ping, header: map[string]string{"Origin": "http://localhost"}, status: 403, want: "browsers"},
		{name: "no session", method: "POST", body: ping, status: 400, want: `"id":"a","error":{"code":-32600,"message":"the header Mcp-Session-Id is missing; begin with initialize"}`},
		{name: "unknown session", method: "POST", session: "x", body: ping, status: 404, want: "session not found"},
		{name: "modern request", method: "POST", body: modern, status: 400, want: `"id":7,"error":{"code":-32600`},
		{name: "modern request in a session", method: "POST", session: session, body: modern, status: 400, want: "before 2026-07-28"},
		{name: "modern header", method: "POST", session: session, body: ping, header: map[string]string{"MCP-Protocol-Version": "2026-07-28"}, status: 400, want: "before 2026-07-28"},
		{name: "modern GET", method: "GET", session: session, header: map[string]string{"MCP-Protocol-Version": "2026-07-28"}, status: 405},
		{name: "modern DELETE", method: "DELETE", session: session, header: map[string]string{"MCP-Protocol-Version": "2026-07-28"}, status: 405},
		{name: "GET without session", method: "GET", status: 400, want: "missing"},
		{name: "GET of an unknown session", method: "GET", session: "x", status: 404},
		{name: "GET without event stream", method: "GET", session: session, header: map[string]string{"Accept": "application/json"}, status: 406},
		{name: "DELETE without session", method: "DELETE", status: 400},
		{name: "DELETE of an unknown session", method: "DELETE", session: "x", status: 404},
		{name: "PUT", method: "PUT", session: session, body: ping, status: 405},
		{name: "no JSON", method: "POST", session: session, body: `{"jsonrpc":`, status: 400, want: `"id":null,"error":{"code":-32700`},
		{name: "empty", method: "POST", session: session, status: 400, want: `-32700`},
		{name: "batch", method: "POST", session: session, body: `[` + ping + `]`, status: 400, want: "batches"},
		{name: "id null", method: "POST", session: session, body: `{"jsonrpc":"2.0","id":null,"method":"ping"}`, status: 400, want: "-32600"},
		{name: "not JSON-RPC", method: "POST", session: session, body: `{"id":1,"method":"ping"}`, status: 400, want: "-32600"},
		{name: "initialize twice", method: "POST", session: session, body: initializeBody, status: 400, want: "already"},
		{name: "too large", method: "POST", session: session, body: `{"jsonrpc":"2.0","method":"` + strings.Repeat("x", 1<<10) + `"}`, status: 413, want: "1024 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := f.do(t, c.method, c.session, c.body, c.header)
			if got.StatusCode != c.status || !strings.Contains(got.body, c.want) {
				t.Errorf("got %d %s\nwant %d …%s…", got.StatusCode, got.body, c.status, c.want)
			}
		})
	}
	if got := f.do(t, http.MethodPost, session, `{"jsonrpc":"2.0","id":5,"method":"test/pid"}`, nil); got.StatusCode != http.StatusOK {
		t.Errorf("after all the refusals the session answers %d %s", got.StatusCode, got.body)
	}
}

func TestOnlyThePathIsServed(t *testing.T) {
	t.Parallel()
	f := start(t, serverScripted, nil)
	f.url = strings.TrimSuffix(f.url, "/mcp") + "/other"
	if got := f.do(t, http.MethodPost, "", initializeBody, nil); got.StatusCode != http.StatusNotFound {
		t.Errorf("status %d", got.StatusCode)
	}
}

func TestRefusedInitializeLeavesNoSession(t *testing.T) {
	t.Parallel()
	f := start(t, serverScripted, nil)
	got := f.do(t, http.MethodPost, "", strings.Replace(initializeBody, `"raw"`, `"unwanted"`, 1), nil)
	if got.StatusCode != http.StatusOK || got.Header.Get("Mcp-Session-Id") != "" || !strings.Contains(got.body, "go away") {
		t.Errorf("got %d, session %q, %s", got.StatusCode, got.Header.Get("Mcp-Session-Id"), got.body)
	}
	eventually(t, "the process ended", func() bool { return strings.Contains(f.log.String(), "Session ended") })
}

func TestServerThatEndsAtOnce(t *testing.T) {
	t.Parallel()
	f := start(t, serverFailing, nil)
	got := f.do(t, http.MethodPost, "", initializeBody, nil)
	if got.Header.Get("Mcp-Session-Id") != "" || !strings.Contains(got.body, `"error"`) || !strings.Contains(got.body, `"id":1`) {
		t.Errorf("got %d %s", got.StatusCode, got.body)
	}
	eventually(t, "the log tells why", func() bool {
		log := f.log.String()
		return strings.Contains(log, `line="no licence found"`) && strings.Contains(log, `exit="exit status 3"`)
	})
}

func TestServerThatDoesNotAnswerInitialize(t *testing.T) {
	t.Parallel()
	f := start(t, serverScripted, func(o *bridge.Options) { o.InitializeTimeout = 100 * time.Millisecond })
	// The scripted server takes a request only by its exact method, so this one goes unanswered.
	body := strings.Replace(initializeBody, `"method":"initialize"`, `"method" :  "initialize"`, 1)
	body = strings.Replace(body, `"id":1`, `"nothing":{"method":"none"},"id":1`, 1)
	got := f.do(t, http.MethodPost, "", body, nil)
	if !strings.Contains(got.body, "did not answer initialize within 100ms") {
		t.Errorf("got %d %s", got.StatusCode, got.body)
	}
	eventually(t, "the process ended", func() bool { return strings.Contains(f.log.String(), "Session ended") })
}

func TestOddOutputOfTheServer(t *testing.T) {
	t.Parallel()
	f := start(t, serverScripted, func(o *bridge.Options) { o.MaxMessageBytes = 1 << 20 })
	t.Run("garbage is logged, the rest passes", func(t *testing.T) {
		got := f.do(t, http.MethodPost, f.open(t).id, `{"jsonrpc":"2.0","id":5,"method":"test/garbage"}`, nil)
		want := "event: message\n" +
			`data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"hello"}}` + "\n\n" +
			"event: message\n" +
			`data: {"jsonrpc":"2.0","id":5,"result":{"from":"batch"}}` + "\n\n"
		if got.body != want || got.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("got %s:\n%s\nwant\n%s", got.Header.Get("Content-Type"), got.body, want)
		}
		if !strings.Contains(f.log.String(), "Listening on stdio!") {
			t.Error("the stray line is not in the log")
		}
	})
	t.Run("a client without event streams gets JSON, the rest waits for GET", func(t *testing.T) {
		session := f.open(t)
		got := f.do(t, http.MethodPost, session.id, `{"jsonrpc":"2.0","id":5,"method":"test/garbage"}`, map[string]string{"Accept": "application/json"})
		if got.body != `{"jsonrpc":"2.0","id":5,"result":{"from":"batch"}}` {
			t.Errorf("got %s", got.body)
		}
		stream, stop := session.stream(t)
		defer stream.Close()
		defer stop()
		lines := bufio.NewScanner(stream)
		for lines.Scan() && !strings.HasPrefix(lines.Text(), "data: ") {
		}
		if !strings.Contains(lines.Text(), "hello") {
			t.Errorf("the stream gave %q", lines.Text())
		}
		if got := f.do(t, http.MethodGet, session.id, "", nil); got.StatusCode != http.StatusConflict {
			t.Errorf("a second stream got %d", got.StatusCode)
		}
	})
	for _, c := range []struct{ method, want string }{
		{"test/overlong", "the server sent a message of more than 1048576 bytes"},
		{"test/mute", "the server closed its output"},
		{"test/exit", "the server ended by itself (exit status 0)"},
	} {
		t.Run(c.method, func(t *testing.T) {
			session := f.open(t)
			_, body := session.post(t, `{"jsonrpc":"2.0","id":"x","method":"`+c.method+`"}`)
			if !strings.Contains(body, c.want) || !strings.Contains(body, `"id":"x"`) {
				t.Errorf("got %s", body)
			}
			if status, _ := session.post(t, `{"jsonrpc":"2.0","id":6,"method":"ping"}`); status != http.StatusNotFound {
				t.Errorf("then got %d", status)
			}
		})
	}
	t.Run("requests that nobody can take are refused", func(t *testing.T) {
		got := f.do(t, http.MethodPost, f.open(t).id, `{"jsonrpc":"2.0","id":5,"method":"test/flood"}`, map[string]string{"Accept": "application/json"})
		if got.body != `{"jsonrpc":"2.0","id":5,"result":{"refused":1}}` {
			t.Errorf("got %s", got.body)
		}
	})
}

func TestLimitsOfASession(t *testing.T) {
	t.Parallel()
	f := start(t, serverSDK, func(o *bridge.Options) { o.MaxCalls = 1 })
	session := f.open(t)
	block := `{"jsonrpc":"2.0","id":"b","method":"tools/call","params":{"name":"block","arguments":{}}}`
	answer := make(chan string, 1)
	go func() {
		_, body := session.post(t, block)
		answer <- body
	}()
	eventually(t, "the call blocks", func() bool { return strings.Contains(f.log.String(), "line=blocking") })
	if status, body := session.post(t, block); status != http.StatusBadRequest || !strings.Contains(body, "with this id") {
		t.Errorf("same id: %d %s", status, body)
	}
	if status, body := session.post(t, `{"jsonrpc":"2.0","id":3,"method":"ping"}`); status != http.StatusTooManyRequests || !strings.Contains(body, "too many requests") {
		t.Errorf("one too many: %d %s", status, body)
	}
	if status, _ := session.post(t, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"b"}}`); status != http.StatusAccepted {
		t.Errorf("cancelled: %d", status)
	}
	if body := <-answer; !strings.Contains(body, `"id":"b","error"`) {
		t.Errorf("the cancelled call got %s", body)
	}
	if status, _ := session.post(t, `{"jsonrpc":"2.0","id":3,"method":"ping"}`); status != http.StatusOK {
		t.Errorf("afterwards: %d", status)
	}
}

// A client that goes away during a call does not cancel it; the session goes on.
func TestDisconnectIsNoCancellation(t *testing.T) {
	t.Parallel()
	f := start(t, serverSDK, nil)
	session := f.open(t)
	ctx, disconnect := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url,
		strings.NewReader(`{"jsonrpc":"2.0","id":"b","method":"tools/call","params":{"name":"block","arguments":{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Mcp-Session-Id", session.id)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if res, err := f.http.Do(req); err == nil {
			res.Body.Close()
			t.Errorf("the blocked call was answered: %s", res.Status)
		}
	}()
	eventually(t, "the call blocks", func() bool { return strings.Contains(f.log.String(), "line=blocking") })
	disconnect()
	<-gone
	if status, body := session.post(t, `{"jsonrpc":"2.0","id":3,"method":"ping"}`); status != http.StatusOK {
		t.Errorf("ping: %d %s", status, body)
	}
	if strings.Contains(f.log.String(), "line=cancelled") {
		t.Error("the call was cancelled")
	}
}

// What the server started ends with it, even when both do not want to.
func TestStubbornServerAndItsChildrenAreKilled(t *testing.T) {
	t.Parallel()
	f := start(t, serverStubborn, nil)
	session := f.open(t)
	_, body := session.post(t, `{"jsonrpc":"2.0","id":5,"method":"test/spawn"}`)
	var answer struct{ Result struct{ Pid, Child int } }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Result.Child == 0 {
		t.Fatalf("spawn gave %s, %v", body, err)
	}
	begin := time.Now()
	if got := f.do(t, http.MethodDelete, session.id, "", nil); got.StatusCode != http.StatusNoContent {
		t.Errorf("DELETE: %d", got.StatusCode)
	}
	if d := time.Since(begin); d > 8*time.Second {
		t.Errorf("the end took %s", d)
	}
	if alive(answer.Result.Pid) {
		t.Error("the server is still there")
	}
	eventually(t, "the server's child is gone", func() bool { return !running(answer.Result.Child) })
	if !strings.Contains(f.log.String(), `exit="signal: killed"`) {
		t.Error("the log does not tell how it ended")
	}
}

// running is alive for processes that somebody else reaps: a zombie does not run.
func running(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// serve serves a bridge on a listener of its own, until it is told to end.
func serve(t *testing.T, o bridge.Options) (f *fixture, end func(), served <-chan error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o.Command = append([]string{self}, o.Command...)
	b, err := bridge.New(o)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	t.Cleanup(end)
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, listener) }()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &fixture{
		url: "http://" + listener.Addr().String() + "/mcp", http: &http.Client{Transport: transport, Timeout: patience}, log: &lockedBuffer{},
	}, end, done
}

// TestServeSendsClientsAwayBeforeItEnds: for a while after it was told to end the bridge serves on, and clients leave of their own accord.
func TestServeSendsClientsAwayBeforeItEnds(t *testing.T) {
	t.Parallel()
	f, end, served := serve(t, bridge.Options{Command: []string{serverSDK}, DrainTimeout: time.Millisecond, ShutdownDelay: time.Second})
	session := f.open(t)
	ping := func() response {
		return f.do(t, http.MethodPost, session.id, `{"jsonrpc":"2.0","id":3,"method":"ping"}`, nil)
	}
	if r := ping(); r.StatusCode != http.StatusOK || r.Close {
		t.Fatalf("ping: %s, closes %t", r.Status, r.Close)
	}
	end()
	eventually(t, "clients are sent away", func() bool {
		r := ping()
		if r.StatusCode != http.StatusOK {
			t.Errorf("ping: %s", r.Status)
		}
		return r.Close
	})
	if r := f.do(t, http.MethodPost, "", initializeBody, nil); r.StatusCode != http.StatusOK || !r.Close {
		t.Errorf("a new session: %s, closes %t", r.Status, r.Close)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestServeEndsSessionsWithItsContext(t *testing.T) {
	t.Parallel()
	f, cancel, served := serve(t, bridge.Options{Command: []string{serverStubborn}, DrainTimeout: 100 * time.Millisecond})
	session := f.open(t)
	_, body := session.post(t, `{"jsonrpc":"2.0","id":5,"method":"test/pid"}`)
	var answer struct{ Result struct{ Pid int } }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Result.Pid == 0 {
		t.Fatalf("pid gave %s, %v", body, err)
	}
	stream, stop := session.stream(t)
	defer stream.Close()
	defer stop()
	begin := time.Now()
	cancel()
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("the end took %s", d)
	}
	if alive(answer.Result.Pid) {
		t.Error("the process is still there")
	}
}

// During the drain of 15 seconds a call goes on for longer than the ends of processes take, and what belongs to it is relayed. What is new goes
// elsewhere.
func TestShutdownLetsCallsFinishAndRefusesOthers(t *testing.T) {
	t.Parallel()
	f := start(t, serverSDK, func(o *bridge.Options) { o.DrainTimeout = 0 })
	session := f.open(t)
	answer := make(chan string, 1)
	go func() {
		_, body := session.post(t, `{"jsonrpc":"2.0","id":"b","method":"tools/call","params":{"name":"block","arguments":{}}}`)
		answer <- body
	}()
	eventually(t, "the call blocks", func() bool { return strings.Contains(f.log.String(), "line=blocking") })
	begun, done := time.Now(), make(chan error, 1)
	go func() { done <- f.bridge.Shutdown(testContext(t)) }()
	eventually(t, "new sessions are refused", func() bool {
		return f.do(t, http.MethodPost, "", initializeBody, nil).StatusCode == http.StatusServiceUnavailable
	})
	eventually(t, "new requests are refused as those of a session that is gone", func() bool {
		status, body := session.post(t, `{"jsonrpc":"2.0","id":3,"method":"ping"}`)
		return status == http.StatusNotFound && !strings.Contains(body, "jsonrpc")
	})
	stream, stop := session.stream(t)
	defer stream.Close()
	defer stop()
	if status, _ := session.post(t, `{"jsonrpc":"2.0","id":"server-1","result":{}}`); status != http.StatusAccepted {
		t.Errorf("a response was answered with %d", status)
	}
	select {
	case body := <-answer:
		t.Fatalf("after %s the call got %s", time.Since(begun), body)
	case <-time.After(6 * time.Second):
	}
	session.post(t, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"b"}}`)
	<-answer
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestCommandThatCannotRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		command []string
		want    string
	}{
		{nil, "no command of a stdio MCP server given"},
		{[]string{"no-such-server"}, `the MCP server cannot be started: exec: "no-such-server": executable file not found in $PATH (PATH is "` + os.Getenv("PATH") + `")`},
		{[]string{filepath.Join(dir, "absent")}, "no such file or directory"},
		{[]string{plain}, "permission denied"},
		{[]string{dir}, "is a directory"},
	} {
		if _, err := bridge.New(bridge.Options{Command: c.command}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %s", c.command, err, c.want)
		}
	}
}

func TestInstall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target := filepath.Join(dir, "vmcp")
	for range 2 { // the second replaces the first
		if err := bridge.Install(target); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.Stat(self)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.Stat(target)
	if err != nil {
		t.Fatal(err)
	}
	if got.Mode() != 0o755 || got.Size() != want.Size() {
		t.Errorf("mode %v, size %d, want %d", got.Mode(), got.Size(), want.Size())
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left over: %v", entries)
	}
	if err := bridge.Install(dir); err == nil || !strings.Contains(err.Error(), "is a folder") {
		t.Errorf("into a folder: %v", err)
	}
	if err := bridge.Install(filepath.Join(dir, "no", "vmcp")); err == nil {
		t.Error("into no folder: no error")
	}
}
