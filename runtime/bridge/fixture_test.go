// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package bridge_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"
)

// The test binary is also the stdio server that the bridge runs: with one of these words as its only argument.
const (
	serverSDK      = "stdio-server"  // an MCP server made with the Go SDK
	serverScripted = "stdio-script"  // answers initialize, and then plays tricks by method
	serverStubborn = "stdio-hardy"   // like serverScripted, but ends neither at the end of its input nor at SIGTERM
	serverFailing  = "stdio-failing" // ends at once
)

var programs = map[string]func(){
	serverSDK:      serveSDK,
	serverScripted: serveScript,
	serverStubborn: func() {
		signal.Ignore(syscall.SIGTERM)
		serveScript()
		select {}
	},
	serverFailing: func() {
		fmt.Fprintln(os.Stderr, "no licence found")
		os.Exit(3)
	},
}

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && programs[os.Args[1]] != nil {
		programs[os.Args[1]]()
		return
	}
	// With -race a program sleeps for a second before it ends; the servers would as well.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	goleak.VerifyTestMain(m)
}

type (
	textArgs struct {
		Text string `json:"text"`
	}
	countArgs struct {
		N int `json:"n"`
	}
)

func text(format string, args ...any) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprintf(format, args...)}}}
}

func serveSDK() {
	server := mcp.NewServer(&mcp.Implementation{Name: "fixture", Version: "1"}, nil)
	calls := 0
	mcp.AddTool(server, &mcp.Tool{Name: "echo"},
		func(_ context.Context, _ *mcp.CallToolRequest, a textArgs) (*mcp.CallToolResult, any, error) {
			return text("%s", a.Text), nil, nil
		})
	mcp.AddTool(server, &mcp.Tool{Name: "pid"},
		func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			return text("%d", os.Getpid()), nil, nil
		})
	mcp.AddTool(server, &mcp.Tool{Name: "count"},
		func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			calls++
			return text("%d", calls), nil, nil
		})
	mcp.AddTool(server, &mcp.Tool{Name: "block"},
		func(ctx context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
			fmt.Fprintln(os.Stderr, "blocking")
			<-ctx.Done()
			fmt.Fprintln(os.Stderr, "cancelled")
			return nil, nil, ctx.Err()
		})
	mcp.AddTool(server, &mcp.Tool{Name: "crash"},
		func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			os.Exit(7)
			return nil, nil, nil
		})
	mcp.AddTool(server, &mcp.Tool{Name: "progress"},
		func(ctx context.Context, r *mcp.CallToolRequest, a countArgs) (*mcp.CallToolResult, any, error) {
			for i := range a.N {
				err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
					ProgressToken: r.Params.GetProgressToken(), Progress: float64(i + 1), Message: fmt.Sprint(r.Params.GetProgressToken()),
				})
				if err != nil {
					return nil, nil, err
				}
			}
			return text("done"), nil, nil
		})
	mcp.AddTool(server, &mcp.Tool{Name: "ask"},
		func(ctx context.Context, r *mcp.CallToolRequest, a textArgs) (*mcp.CallToolResult, any, error) {
			answer, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: a.Text, RequestedSchema: map[string]any{
				"type": "object", "properties": map[string]any{"name": map[string]any{"type": "string"}},
			}})
			if err != nil {
				return nil, nil, err
			}
			return text("%s %v", answer.Action, answer.Content["name"]), nil, nil
		})
	mcp.AddTool(server, &mcp.Tool{Name: "grow"},
		func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			mcp.AddTool(server, &mcp.Tool{Name: "late"},
				func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
					return text("late"), nil, nil
				})
			return text("grown"), nil, nil
		})
	if err := server.Run(context.Background(), &mcp.StdioTransport{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// serveScript speaks just enough of MCP by hand to do what no SDK does.
func serveScript() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 4<<20)
	say := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	for lines.Scan() {
		line := lines.Text()
		id, method := between(line, `"id":`, `,`), between(line, `"method":"`, `"`)
		switch method {
		case "initialize":
			if strings.Contains(line, `"unwanted"`) {
				say(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"go away"}}`, id)
				continue
			}
			say(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"script","version":"1"}}}`, id)
		case "test/garbage": // a line that is no message, then one with blanks, then a batch
			say("Listening on stdio!")
			say(` { "jsonrpc" : "2.0", "method":"notifications/message", "params":{"level":"info","data":"hello"} } `)
			say(`[{"jsonrpc":"2.0","id":%s,"result":{"from":"batch"}}]`, id)
		case "test/overlong":
			say(`{"jsonrpc":"2.0","id":%s,"result":{"text":"%s"}}`, id, strings.Repeat("x", 2<<20))
		case "test/mute": // no output from now on, but alive
			os.Stdout.Close()
		case "test/deaf":
			os.Stdin.Close()
			time.Sleep(time.Hour)
		case "test/flood": // requests that nobody answers, while nobody listens
			for i := range 300 {
				say(`{"jsonrpc":"2.0","id":"flood-%d","method":"roots/list"}`, i)
			}
			refused := 0
			for refused == 0 && lines.Scan() {
				if strings.Contains(lines.Text(), `"error"`) {
					refused++
				}
			}
			say(`{"jsonrpc":"2.0","id":%s,"result":{"refused":%d}}`, id, refused)
		case "test/spawn": // a process in the same group that holds the pipes open
			child := exec.Command("sleep", "3600")
			child.Stdout, child.Stderr = os.Stdout, os.Stderr
			if err := child.Start(); err != nil {
				say(`{"jsonrpc":"2.0","id":%s,"error":{"code":1,"message":%q}}`, id, err)
				continue
			}
			say(`{"jsonrpc":"2.0","id":%s,"result":{"pid":%d,"child":%d}}`, id, os.Getpid(), child.Process.Pid)
		case "test/orphan": // a process whose parent ends before it
			pid, err := exec.Command("sh", "-c", "sleep 0.2 >&2 & echo $!").Output()
			if err != nil {
				say(`{"jsonrpc":"2.0","id":%s,"error":{"code":1,"message":%q}}`, id, err)
				continue
			}
			say(`{"jsonrpc":"2.0","id":%s,"result":{"pid":%s}}`, id, strings.TrimSpace(string(pid)))
		case "test/exit":
			os.Exit(0)
		case "test/pid":
			say(`{"jsonrpc":"2.0","id":%s,"result":{"pid":%d}}`, id, os.Getpid())
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// between is what stands between the first start and the next end.
func between(s, start, end string) string {
	_, rest, _ := strings.Cut(s, start)
	found, _, _ := strings.Cut(rest, end)
	return found
}
