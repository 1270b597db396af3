// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package bridge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mcpgo "github.com/mark3labs/mcp-go/client"
	mcpgotransport "github.com/mark3labs/mcp-go/client/transport"
	mcpgotypes "github.com/mark3labs/mcp-go/mcp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/vmcp-dev/vmcp-operator/runtime/bridge"
)

const patience = 20 * time.Second

// lockedBuffer collects a log.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

type fixture struct {
	url    string
	bridge *bridge.Bridge
	log    *lockedBuffer
	http   *http.Client
}

// start serves a bridge before one of the stdio servers of TestMain.
func start(t *testing.T, server string, adjust func(*bridge.Options)) *fixture {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log := &lockedBuffer{}
	o := bridge.Options{
		Command:      []string{self, server},
		DrainTimeout: time.Millisecond,
		Logger:       slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if adjust != nil {
		adjust(&o)
	}
	b, err := bridge.New(o)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	ts := httptest.NewServer(b)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		transport.CloseIdleConnections()
		ts.Close()
		if t.Failed() {
			t.Logf("log of the bridge:\n%s", log)
		}
	})
	return &fixture{url: ts.URL + "/mcp", bridge: b, log: log, http: &http.Client{Transport: transport, Timeout: patience}}
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// connect opens a session with the Go SDK's client.
func (f *fixture) connect(t *testing.T, o *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, o)
	session, err := client.Connect(testContext(t), &mcp.StreamableClientTransport{Endpoint: f.url, HTTPClient: &http.Client{Transport: f.http.Transport}}, nil)
	if err != nil {
		t.Fatalf("connect: %v\n%s", err, f.log)
	}
	t.Cleanup(func() { session.Close() })
	return session
}

func call(t *testing.T, session *mcp.ClientSession, tool string, args any) string {
	t.Helper()
	got, err := callErr(t, session, tool, args)
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	return got
}

func callErr(t *testing.T, session *mcp.ClientSession, tool string, args any) (string, error) {
	result, err := session.CallTool(testContext(t), &mcp.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		return "", err
	}
	content, ok := result.Content[0].(*mcp.TextContent)
	if !ok || result.IsError {
		return "", fmt.Errorf("unexpected result %+v", result)
	}
	return content.Text, nil
}

func pidOf(t *testing.T, session *mcp.ClientSession) int {
	t.Helper()
	pid, err := strconv.Atoi(call(t, session, "pid", nil))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestGoSDKClient(t *testing.T) {
	t.Parallel()
	f := start(t, serverSDK, nil)
	session := f.connect(t, nil)
	if got := session.InitializeResult().ProtocolVersion; got != "2025-11-25" {
		t.Errorf("negotiated %q", got)
	}
	tools, err := session.ListTools(testContext(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(tools.Tools) < 5 {
		t.Errorf("%d tools", len(tools.Tools))
	}
	if got := call(t, session, "echo", textArgs{"grüße\n\u2028 <&>"}); got != "grüße\n\u2028 <&>" {
		t.Errorf("echo gave %q", got)
	}
}

func TestMCPGoClient(t *testing.T) {
	t.Parallel()
	f := start(t, serverSDK, nil)
	client, err := mcpgo.NewStreamableHttpClient(f.url, mcpgotransport.WithHTTPBasicClient(f.http))
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	if err := client.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	init, err := client.Initialize(ctx, mcpgotypes.InitializeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if init.ProtocolVersion != "2025-11-25" {
		t.Errorf("negotiated %q", init.ProtocolVersion)
	}
	request := mcpgotypes.CallToolRequest{}
	request.Params.Name, request.Params.Arguments = "echo", textArgs{"hello"}
	result, err := client.CallTool(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := result.Content[0].(mcpgotypes.TextContent); !ok || got.Text != "hello" {
		t.Errorf("echo gave %+v", result)
	}
}

func TestConcurrentCallsInOneSession(t *testing.T) {
	t.Parallel()
	f := start(t, serverSDK, nil)
	session := f.connect(t, nil)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			want := fmt.Sprintf("message %d", i)
			if got, err := callErr(t, session, "echo", textArgs{want}); err != nil || got != want {
				t.Errorf("echo gave %q, %v; want %q", got, err, want)
			}
		})
	}
	wg.Wait()
}

func TestSessionsAreIsolated(t *testing.T) {
	t.Parallel()
	f := start(t, serverSDK, nil)
	a, b := f.connect(t, nil), f.connect(t, nil)
	if pidOf(t, a) == pidOf(t, b) {
		t.Error("two sessions share a process")
	}
	call(t, a, "count", nil)
	if got := call(t, a, "count", nil); got != "2" {
		t.Errorf("second count of a is %s", got)
	}
	if got := call(t, b, "count", nil); got != "1" {
		t.Errorf("first count of b is %s", got)
	}
}

// Progress of concurrent calls reaches its own call, in order and before the response.
func TestProgressGoesToItsCall(t *testing.T) {
	t.Parallel()
	f := start(t, serverSDK, nil)
	var mu sync.Mutex
	progress := map[string][]float64{}
	session := f.connect(t, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			mu.Lock()
			defer mu.Unlock()
			if r.Params.Message != fmt.Sprint(r.Params.ProgressToken) {
				t.Errorf("token %v carries %q", r.Params.ProgressToken, r.Params.Message)
			}
			progress[r.Params.Message] = append(progress[r.Params.Message], r.Params.Progress)
		},
	})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			params := &mcp.CallToolParams{Name: "progress", Arguments: countArgs{20}}
			params.SetProgressToken(fmt.Sprintf("token-%d", i))
			if _, err := session.CallTool(testContext(t), params); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	eventually(t, "all progress", func() bool {
		mu.Lock()
		defer mu.Unlock()
		n := 0
		for _, p := range progress {
			n += len(p)
		}
		return n == 8*20
	})
	for token, p := range progress {
		for i := range p {
			if p[i] != float64(i+1) {
				t.Fatalf("%s: progress %v", token, p)
			}
		}
	}
}

func TestServerAsksClient(t *testing.T) {
	t.Parallel()
	f := start(t, serverSDK, nil)
	session := f.connect(t, &mcp.ClientOptions{
		ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ada for " + r.Params.Message}}, nil
		},
	})
	if got := call(t, session, "ask", textArgs{"who"}); got != "accept Ada for who" {
		t.Errorf("ask gave %q", got)
	}
	var wg sync.WaitGroup // with several calls under way the question travels on the GET stream
	for i := range 5 {
		wg.Go(func() {
			if got, err := callErr(t, session, "ask", textArgs{fmt.Sprint(i)}); err != nil || got != fmt.Sprintf("accept Ada for %d", i) {
				t.Errorf("ask %d gave %q, %v", i, got, err)
			}
		})
	}
	wg.Wait()
}

func TestListChangedReachesTheStream(t *testing.T) {
	t.Parallel()
	f := start(t, serverSDK, nil)
	changed := make(chan struct{}, 1)
	session := f.connect(t, &mcp.ClientOptions{
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) {
			select {
			case changed <- struct{}{}:
			default:
			}
		},
	})
	call(t, session, "grow", nil)
	select {
	case <-changed:
	case <-time.After(patience):
		t.Fatal("no list_changed")
	}
	if got := call(t, session, "late", nil); got != "late" {
		t.Errorf("late gave %q", got)
	}
}

func TestCancellationReachesTheServer(t *testing.T) {
	t.Parallel()
	f := start(t, serverSDK, nil)
	session := f.connect(t, nil)
	ctx, cancel := context.WithCancel(testContext(t))
	result := make(chan error, 1)
	go func() {
		_, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "block"})
		result <- err
	}()
	eventually(t, "the call blocks", func() bool { return strings.Contains(f.log.String(), "line=blocking") })
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("call ended with %v", err)
	}
	eventually(t, "the server hears it", func() bool { return strings.Contains(f.log.String(), "line=cancelled") })
	if got := call(t, session, "echo", textArgs{"still here"}); got != "still here" {
		t.Errorf("echo gave %q", got)
	}
}

func TestCrashDuringCall(t *testing.T) {
	t.Parallel()
	f := start(t, serverSDK, nil)
	session := f.connect(t, nil)
	pid := pidOf(t, session)
	begin := time.Now()
	_, err := callErr(t, session, "crash", nil)
	if err == nil || !strings.Contains(err.Error(), "the server ended by itself (exit status 7)") {
		t.Errorf("crash gave %v", err)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("the error took %s", d)
	}
	if _, err := callErr(t, session, "echo", textArgs{"x"}); !errors.Is(err, mcp.ErrSessionMissing) {
		t.Errorf("after the crash a call gives %v, want the session to be missing", err)
	}
	if alive(pid) {
		t.Error("the process is still there")
	}
	if got := call(t, f.connect(t, nil), "echo", textArgs{"again"}); got != "again" {
		t.Errorf("a new session's echo gave %q", got)
	}
}

func TestDeleteEndsTheProcess(t *testing.T) {
	t.Parallel()
	f := start(t, serverSDK, nil)
	session := f.connect(t, nil)
	pid := pidOf(t, session)
	if !alive(pid) {
		t.Fatal("no process")
	}
	if err := session.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process is gone", func() bool { return !alive(pid) })
	eventually(t, "the log says why", func() bool { return strings.Contains(f.log.String(), `cause="the client ended the session"`) })
}

func TestBigMessages(t *testing.T) {
	t.Parallel()
	f := start(t, serverSDK, nil)
	session := f.connect(t, nil)
	big := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	if got := call(t, session, "echo", textArgs{big}); got != big {
		t.Errorf("echo gave %d bytes, want %d", len(got), len(big))
	}
}

func TestIdleSessionEnds(t *testing.T) {
	t.Parallel()
	f := start(t, serverSDK, func(o *bridge.Options) { o.IdleTimeout = time.Second })
	streaming := f.open(t)
	stream, stop := streaming.stream(t)
	defer stream.Close()
	defer stop()
	idle := f.open(t)
	pid := idle.pid(t)
	eventually(t, "the process is gone", func() bool { return !alive(pid) })
	if status, _ := idle.post(t, `{"jsonrpc":"2.0","id":9,"method":"ping"}`); status != http.StatusNotFound {
		t.Errorf("status %d after the end", status)
	}
	eventually(t, "the log says why", func() bool {
		return strings.Contains(f.log.String(), `cause="the session was idle for too long"`)
	})
	// An open stream is use, although nothing was said for longer.
	if status, _ := streaming.post(t, `{"jsonrpc":"2.0","id":9,"method":"ping"}`); status != http.StatusOK {
		t.Errorf("the session with a stream answers %d", status)
	}
}

func TestMaxSessions(t *testing.T) {
	t.Parallel()
	f := start(t, serverSDK, func(o *bridge.Options) { o.MaxSessions = 2 })
	first := f.open(t)
	f.open(t)
	response := f.do(t, http.MethodPost, "", initializeBody, nil)
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("status %d, Retry-After %q", response.StatusCode, response.Header.Get("Retry-After"))
	}
	if response := f.do(t, http.MethodDelete, first.id, "", nil); response.StatusCode != http.StatusNoContent {
		t.Errorf("DELETE gave %d", response.StatusCode)
	}
	eventually(t, "room for another", func() bool {
		return f.do(t, http.MethodPost, "", initializeBody, nil).StatusCode == http.StatusOK
	})
}
