// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const patience = 30 * time.Second

// program is the path of the program under test; it is built once.
var program string

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "stdio-server" {
		if err := echoServer("stdio").Run(context.Background(), &mcp.StdioTransport{}); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "vmcp")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "vmcp")
		build := exec.Command("go", "build", "-o", program, ".")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "building vmcp:", err)
			return 1
		}
		return m.Run()
	}())
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

type args struct {
	Text string `json:"text"`
}

func echoServer(name string) *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: name, Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "echo", Description: "Says it again"},
		func(_ context.Context, _ *mcp.CallToolRequest, a args) (*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: name + ": " + a.Text}}}, nil, nil
		})
	return server
}

// backend serves an MCP server on loopback and returns its URL.
func backend(t *testing.T, name string) string {
	t.Helper()
	server := echoServer(name)
	ts := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil))
	t.Cleanup(func() {
		ts.CloseClientConnections()
		ts.Close()
	})
	return ts.URL
}

// process is a run of the program.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}

	mu     sync.Mutex
	stderr bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.Write(b)
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

func start(t *testing.T, arguments ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(program, arguments...), exited: make(chan struct{})}
	p.cmd.Stderr = p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // the tests look at the state
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it has ended in most tests
		<-p.exited
		if t.Failed() {
			t.Logf("vmcp %q:\n%s", arguments, p.log())
		}
	})
	return p
}

// find waits until the program has written something that matches, and returns the first group.
func (p *process) find(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if found := re.FindStringSubmatch(p.log()); found != nil {
			return found[len(found)-1]
		}
		select {
		case <-tick.C:
		case <-p.exited:
			t.Fatalf("the program ended (%s) and did not write %s:\n%s", p.cmd.ProcessState, pattern, p.log())
		case <-deadline.C:
			t.Fatalf("the program did not write %s:\n%s", pattern, p.log())
		}
	}
}

// terminate sends SIGTERM and returns the exit code and how long the end took.
func (p *process) terminate(t *testing.T) (int, time.Duration) {
	t.Helper()
	begin := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Fatal("the program does not end")
	}
	return p.cmd.ProcessState.ExitCode(), time.Since(begin)
}

func connect(t *testing.T, url string) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(testContext(t), &mcp.StreamableClientTransport{Endpoint: url}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session
}

func call(t *testing.T, session *mcp.ClientSession, tool, text string) string {
	t.Helper()
	result, err := session.CallTool(testContext(t), &mcp.CallToolParams{Name: tool, Arguments: args{text}})
	if err != nil {
		t.Fatal(err)
	}
	content, ok := result.Content[0].(*mcp.TextContent)
	if !ok {
		t.Fatalf("unexpected result %+v", result)
	}
	return content.Text
}

func manifests(t *testing.T, urls map[string]string) string {
	t.Helper()
	text := `
apiVersion: vmcp.dev/v1alpha1
kind: VirtualMCPServer
metadata: {name: local}
spec:
  groupRef: {name: local}
---
apiVersion: vmcp.dev/v1alpha1
kind: MCPGroup
metadata: {name: local}
`
	for name, url := range urls {
		text += fmt.Sprintf(`---
apiVersion: vmcp.dev/v1alpha1
kind: MCPBackend
metadata: {name: %s}
spec:
  groupRef: {name: local}
  remote: {url: %q}
`, name, url)
	}
	return write(t, text)
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "manifests.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestServeManifests(t *testing.T) {
	t.Parallel()
	one, two := backend(t, "one"), backend(t, "two")
	p := start(t, "serve", "-f", manifests(t, map[string]string{"one": one + "/?key=s3cret", "two": two}),
		"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	endpoint := p.find(t, `endpoint  (http://127\.0\.0\.1:\d+/mcp)\n`)
	admin := p.find(t, `admin     (http://127\.0\.0\.1:\d+)/`)
	p.find(t, `backends  (one  streamable-http  `+regexp.QuoteMeta(one+"/?...")+`\n            two  streamable-http  `+regexp.QuoteMeta(two)+`)\n`)
	p.find(t, `phase=Ready`)

	response, err := http.Get(admin + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("readyz: %s", response.Status)
	}

	session := connect(t, endpoint)
	list, err := session.ListTools(testContext(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tool := range list.Tools {
		names = append(names, tool.Name)
	}
	if diff := cmp.Diff([]string{"one_echo", "two_echo"}, names); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"one", "two"} {
		if got, want := call(t, session, name+"_echo", "hello"), name+": hello"; got != want {
			t.Errorf("%s_echo gave %q", name, got)
		}
	}
	if code, took := p.terminate(t); code != 0 || took > 10*time.Second {
		t.Errorf("exit code %d after %s", code, took)
	}
}

func TestServeManifests_WithCredentials(t *testing.T) {
	server := echoServer("locked")
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Api-Key") != "s3cr3t" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		ts.CloseClientConnections()
		ts.Close()
	})
	file := manifests(t, map[string]string{"locked": ts.URL})
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	with := strings.Replace(string(text), "spec:\n", `spec:
  outgoingAuth: {default: {externalAuthConfigRef: {name: key}}}
`, 1) + `
---
apiVersion: vmcp.dev/v1alpha1
kind: MCPExternalAuthConfig
metadata: {name: key}
spec:
  type: headerInjection
  headerInjection: {headerName: X-Api-Key, secretRef: {name: key, key: value}}
---
apiVersion: v1
kind: Secret
metadata: {name: key, labels: {vmcp.dev/credential: "true"}}
stringData: {value: s3cr3t}
`
	if err := os.WriteFile(file, []byte(with), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "serve", "-f", file, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-level", "debug")
	endpoint := p.find(t, `endpoint +(http://\S+)`)
	p.find(t, `Ready: the first catalog is complete`)
	if got := call(t, connect(t, endpoint), "locked_echo", "x"); got != "locked: x" {
		t.Errorf("locked_echo answered %q", got)
	}
	if strings.Contains(p.log(), "s3cr3t") {
		t.Error("the log has the credentials")
	}
}

func TestServeTheSample(t *testing.T) {
	t.Parallel()
	p := start(t, "serve", "-f", filepath.Join("..", "..", "config", "samples", "standalone", "manifests.yaml"),
		"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-format", "json")
	p.find(t, `"msg":"Serving"`)
	if strings.Contains(p.log(), "endpoint  ") {
		t.Error("the summary is among the JSON")
	}
	if code, _ := p.terminate(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	malformed := write(t, `apiVersion: vmcp.dev/v1alpha1
kind: MCPBackend
metadata: {name: x}
spec:
  groupRef: {name: team}
  remote:
    url: ftp://x
    uri: y
---
apiVersion: vmcp.dev/v1alpha1
kind: MCPBackend
metadata: {name: other}
spec:
  groupRef: {name: team}
  remote:
    url: ftp://x
`)
	notConfiguration := write(t, "kind: Pod\n")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		name   string
		args   []string
		env    []string
		code   int
		stderr string
	}{
		{"malformed manifests", []string{"serve", "-f", malformed}, nil, 2, malformed + ":8: spec.remote.uri: unknown field; known here: url\n" +
			malformed + ":16: spec.remote.url: Invalid value: \"ftp://x\": url must be an absolute http or https URL\n"},
		{"absent manifests", []string{"serve", "-f", "absent.yaml"}, nil, 1, "vmcp: reading manifests: open absent.yaml: no such file or directory\n"},
		{"neither file", []string{"serve"}, nil, 2, "vmcp: name a file of manifests with -f, or in a pod the configuration with --config\n"},
		{"both files", []string{"serve", "-f", "a", "--config", "b"}, nil, 2, "vmcp: --config and -f exclude each other\n"},
		{"unknown flag", []string{"serve", "--port", "80"}, nil, 2, "vmcp: unknown flag: --port; see vmcp serve --help\n"},
		{"unknown command", []string{"run"}, nil, 2, "vmcp: unknown command \"run\" for \"vmcp\"; see vmcp --help\n"},
		{"log level", []string{"serve", "--log-level", "loud"}, nil, 2, "vmcp: invalid argument \"loud\" for \"--log-level\" flag: slog: level string \"loud\": unknown name; see vmcp serve --help\n"},
		{"log format", []string{"serve", "-f", "a", "--log-format", "xml"}, nil, 2, "vmcp: --log-format must be json or text, not \"xml\"\n"},
		{"no name", []string{"serve", "--config", "a"}, nil, 2, "vmcp: set VMCP_NAME and VMCP_NAMESPACE to the name and namespace of the VirtualMCPServer\n"},
		{"malformed configuration", []string{"serve", "--config", notConfiguration}, []string{"VMCP_NAME=a", "VMCP_NAMESPACE=b"}, 2,
			"vmcp: " + notConfiguration + ": expected config.vmcp.dev/v1alpha1 RuntimeConfiguration, found \"\" \"Pod\"\n"},
		{"absent configuration", []string{"serve", "--config", "absent.yaml"}, []string{"VMCP_NAME=a", "VMCP_NAMESPACE=b"}, 1,
			"vmcp: reading the configuration: open absent.yaml: no such file or directory\n"},
		{"address", []string{"serve", "-f", manifests(t, nil), "--listen", "4483"}, nil, 2, "vmcp: --listen: address 4483: missing port in address\n"},
		{"address of profiles", []string{"serve", "-f", manifests(t, nil), "--pprof-listen", "6060"}, nil, 2, "vmcp: --pprof-listen: address 6060: missing port in address\n"},
		{"replicas nobody listens to", []string{"serve", "-f", manifests(t, nil), "--peers", "a:1"}, nil, 2,
			"vmcp: --peers without --peer-listen: replicas listen to each other\n"},
		{"replicas without keys", []string{"serve", "-f", manifests(t, nil), "--peer-listen", "127.0.0.1:0"}, nil, 2,
			"vmcp: --peer-listen without --session-keys-dir: replicas know each other by these keys\n"},
		{"address of replicas", []string{"serve", "-f", manifests(t, nil), "--peer-listen", "127.0.0.1:0", "--session-keys-dir", "k", "--peers", "a"}, nil, 2,
			"vmcp: --peers: \"a\" is not HOST:PORT: address a: missing port in address\n"},
		{"address of the pod", []string{"serve", "-f", manifests(t, nil), "--peer-listen", "127.0.0.1:0", "--session-keys-dir", "k"}, []string{"POD_IP=a"}, 2,
			"vmcp: POD_IP: ParseAddr(\"a\"): unable to parse IP\n"},
		{"address that nobody knows", []string{"serve", "-f", manifests(t, nil), "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
			"--peer-listen", ":0", "--session-keys-dir", "k"}, nil, 1,
			"vmcp: no other replica can know the address of this one: listen for them at one, or set POD_IP\n"},
		{"port taken", []string{"serve", "-f", manifests(t, nil), "--listen", taken.Addr().String()}, nil, 1, "address already in use\n"},
		{"bridge without command", []string{"bridge"}, nil, 2, "vmcp: name the command of the MCP server after --; see vmcp bridge --help\n"},
		{"bridge without dashes", []string{"bridge", "server"}, nil, 2, "vmcp: name the command of the MCP server after --; see vmcp bridge --help\n"},
		{"bridge with an absent command", []string{"bridge", "--", "no-such-server"}, nil, 1,
			"vmcp: the MCP server cannot be started: exec: \"no-such-server\": executable file not found in $PATH (PATH is \"" + os.Getenv("PATH") + "\")\n"},
		{"install nowhere", []string{"bridge", "install"}, nil, 2, "vmcp: accepts 1 arg(s), received 0; see vmcp bridge install --help\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := testContext(t)
			cmd := exec.CommandContext(ctx, program, c.args...)
			cmd.Env = append(os.Environ(), c.env...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			err := cmd.Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != c.code {
				t.Errorf("ended with %v, want exit code %d", err, c.code)
			}
			if !strings.HasSuffix(stderr.String(), c.stderr) {
				t.Errorf("stderr is\n%swant\n%s", stderr.String(), c.stderr)
			}
		})
	}
}

func TestBridge(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	installed := filepath.Join(t.TempDir(), "vmcp")
	if out, err := exec.Command(program, "bridge", "install", installed).CombinedOutput(); err != nil {
		t.Fatalf("install: %v\n%s", err, out)
	}
	if out, err := exec.Command(installed, "version").Output(); err != nil || strings.TrimSpace(string(out)) == "" {
		t.Fatalf("the installed program's version is %q, %v", out, err)
	}
	p := start(t, "bridge", "--listen", "127.0.0.1:0", "--path", "/tools", "--", self, "stdio-server")
	session := connect(t, "http://"+p.find(t, `"address":"([^"]+)"`)+"/tools")
	if got := call(t, session, "echo", "hello"); got != "stdio: hello" {
		t.Errorf("echo gave %q", got)
	}
	if code, took := p.terminate(t); code != 0 || took > 10*time.Second {
		t.Errorf("exit code %d after %s", code, took)
	}
}
