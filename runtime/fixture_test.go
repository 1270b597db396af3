// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/discovery"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube/kubetest"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == processCommand {
		os.Exit(runProcess(os.Args[2]))
	}
	kubetest.Main(m)
}

// Deadlines of what the tests wait for.
const (
	soon = 15 * time.Second // what the runtime promises of a backend that dies or comes back while idle
	long = 45 * time.Second // a start or a shutdown on a busy machine
	tick = 20 * time.Millisecond
)

// eventually waits until check finds nothing wrong.
func eventually(t *testing.T, within time.Duration, check func() string) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		problem := check()
		if problem == "" {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("after %s: %s", within, problem)
		}
	}
}

// mcpServer is a real MCP server, of another implementation than ours, that can be stopped and started at one address.
type mcpServer struct {
	address string
	tools   []string
	wrap    func(http.Handler) http.Handler // nil: all may call
	stop    func()
}

type textInput struct {
	Text string `json:"text"`
}

// startMCPServer serves tools that answer with their name and the text that they are given.
func startMCPServer(t *testing.T, tools ...string) *mcpServer {
	t.Helper()
	s := &mcpServer{address: "127.0.0.1:0", tools: tools}
	s.start(t)
	return s
}

func (s *mcpServer) url() string { return "http://" + s.address + "/mcp" }

func (s *mcpServer) start(t *testing.T) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", s.address)
	if err != nil {
		t.Fatalf("starting an MCP server: %v", err)
	}
	s.address = listener.Addr().String()
	server := mcp.NewServer(&mcp.Implementation{Name: "fixture", Version: "1"}, nil)
	for _, name := range s.tools {
		mcp.AddTool(server, &mcp.Tool{Name: name, Description: name},
			func(_ context.Context, _ *mcp.CallToolRequest, in textInput) (*mcp.CallToolResult, any, error) {
				return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: name + ": " + in.Text}}}, nil, nil
			})
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil))
	h := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	if s.wrap != nil {
		h.Handler = s.wrap(mux)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = h.Serve(listener) })
	s.stop = sync.OnceFunc(func() {
		_ = h.Close() // connections are reset, as when a process dies
		serving.Wait()
		for session := range server.Sessions() {
			_ = session.Close()
		}
	})
	t.Cleanup(s.stop)
}

// discoverer is a list of backends that a test can change.
type discoverer struct {
	lists chan []backend.Target
}

func newDiscoverer(targets ...backend.Target) *discoverer {
	d := &discoverer{lists: make(chan []backend.Target, 1)}
	d.set(targets...)
	return d
}

func (d *discoverer) set(targets ...backend.Target) {
	slices.SortFunc(targets, func(a, b backend.Target) int { return a.Compare(b.Key) })
	d.lists <- targets
}

func (d *discoverer) Run(ctx context.Context, publish func(discovery.Finding)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case targets := <-d.lists:
			publish(discovery.Finding{Complete: true, Targets: targets})
		}
	}
}

func target(name, url string) backend.Target {
	return backend.Target{
		Key: backend.Key{Kind: v1alpha1.KindMCPBackend, Name: name}, Source: v1alpha1.BackendSourceRemote, URL: url,
		Transport: v1alpha1.TransportStreamableHTTP, DeclaredTransport: v1alpha1.TransportStreamableHTTP,
	}
}

// recorder is a reporter that keeps the reports.
type recorder struct {
	mu      sync.Mutex
	reports []status.Report
}

func (r *recorder) Report(report status.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reports = append(r.reports, report)
}

func (r *recorder) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (r *recorder) last() (status.Report, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.reports) == 0 {
		return status.Report{}, false
	}
	return r.reports[len(r.reports)-1], true
}

// phases are the phases that were reported, without repetitions.
func (r *recorder) phases() []v1alpha1.Phase {
	r.mu.Lock()
	defer r.mu.Unlock()
	var phases []v1alpha1.Phase
	for _, report := range r.reports {
		phases = append(phases, status.Summarize(report).Phase)
	}
	return slices.Compact(phases)
}

func (r *recorder) expectPhase(t *testing.T, within time.Duration, want v1alpha1.Phase) {
	t.Helper()
	eventually(t, within, func() string {
		report, reported := r.last()
		if !reported {
			return "nothing was reported"
		}
		if s := status.Summarize(report); s.Phase != want {
			return "phase is " + string(s.Phase) + ": " + s.Message
		}
		return ""
	})
}

// started is a runtime that runs in the test's process.
type started struct {
	endpoint, admin string
	http            *http.Client
	stop            func() error
}

// start runs a runtime on free ports until the test ends.
func start(t *testing.T, o runtime.Options) *started {
	t.Helper()
	o.Listen, o.AdminListen = "127.0.0.1:0", "127.0.0.1:0"
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if o.Name == "" {
		o.Name, o.Version = "test", "v0"
	}
	bound := make(chan [2]string, 1)
	o.Listening = func(gateway, admin net.Addr) { bound <- [2]string{gateway.String(), admin.String()} }
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- runtime.Run(ctx, o) }()
	s := &started{http: &http.Client{Transport: &http.Transport{}}}
	s.stop = sync.OnceValue(func() error {
		cancel()
		defer s.http.CloseIdleConnections()
		select {
		case err := <-ended:
			return err
		case <-time.After(long):
			t.Error("the runtime did not end")
			return nil
		}
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("the runtime ended with: %v", err)
		}
	})
	select {
	case a := <-bound:
		s.endpoint, s.admin = "http://"+a[0]+"/mcp", "http://"+a[1]
	case err := <-ended:
		t.Fatalf("the runtime did not start: %v", err)
	case <-time.After(long):
		t.Fatal("the runtime did not start")
	}
	return s
}

// get returns the status code and the body of an admin endpoint.
func (s *started) get(t *testing.T, path string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.admin+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.http.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// connect opens a session with the gateway. changed gets a value for each announced change of the tools.
func (s *started) connect(t *testing.T) (session *mcp.ClientSession, changed <-chan struct{}) {
	t.Helper()
	changes := make(chan struct{}, 100)
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { changes <- struct{}{} },
	})
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: s.endpoint, HTTPClient: s.http}, nil)
	if err != nil {
		t.Fatalf("connecting to the gateway: %v", err)
	}
	t.Cleanup(func() { _ = session.Close() }) // the gateway may be gone by then
	return session, changes
}

func expectTools(t *testing.T, session *mcp.ClientSession, within time.Duration, want ...string) {
	t.Helper()
	eventually(t, within, func() string {
		list, err := session.ListTools(t.Context(), nil)
		if err != nil {
			return err.Error()
		}
		var got []string
		for _, tool := range list.Tools {
			got = append(got, tool.Name)
		}
		if !slices.Equal(got, want) {
			return "tools are " + strings.Join(got, ", ")
		}
		return ""
	})
}

func call(t *testing.T, session *mcp.ClientSession, tool, text string) (string, error) {
	t.Helper()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: map[string]any{"text": text}})
	if err != nil {
		return "", err
	}
	if len(result.Content) != 1 {
		t.Fatalf("%s answered %d contents, want 1", tool, len(result.Content))
	}
	content, isText := result.Content[0].(*mcp.TextContent)
	if !isText {
		t.Fatalf("%s answered %T, want text", tool, result.Content[0])
	}
	return content.Text, nil
}

var discard = slog.New(slog.DiscardHandler)

func listenLoopback(t *testing.T) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // a server may have closed it
	return l
}
