// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/tidwall/gjson"

	"github.com/vmcp-dev/vmcp-operator/test/process"
)

const (
	// clientTimeout bounds all steps of a client; the inspector is started once for each.
	clientTimeout = 4 * time.Minute

	versionLegacy = "2025-11-25"
	versionModern = "2026-07-28"

	// What the server of the suites offers, and what it answers.
	theTool, theToolSays         = "test_simple_text", "simple text response"
	thePrompt, thePromptSays     = "test_simple_prompt", "simple prompt"
	theResource, theResourceSays = "test://static-text", "static text resource"
)

// clientSteps are what each client does: it connects, finds the revision that it should have negotiated, lists, calls a tool, reads
// a resource and gets a prompt.
var clientSteps = []string{"connect", "negotiate", "list", "call", "read", "prompt"}

// client is an MCP client that others wrote.
type client struct {
	// name is that of the rows, with the era that the client is told to speak, if it can be told.
	name string
	// mode is legacy, auto or modern. A client that negotiates must end at the newest revision of the server; one that does so
	// silently at an older one has failed.
	mode string
	run  driver
}

// driver has a client take its steps, and returns those that it came to. log says where its output is kept.
type driver func(ctx context.Context, n node, c client, t target, log process.Options) []scenario

var clients = []client{
	{name: "inspector, legacy", mode: "legacy", run: runInspector},
	{name: "inspector, auto", mode: "auto", run: runInspector},
	{name: "inspector, modern", mode: "modern", run: runInspector},
	{name: "TypeScript client v2, legacy", mode: "legacy", run: script("client-v2.mjs")},
	{name: "TypeScript client v2, auto", mode: "auto", run: script("client-v2.mjs")},
	{name: "TypeScript client v2, pinned", mode: "modern", run: script("client-v2.mjs")},
	{name: "TypeScript SDK v1", mode: "legacy", run: script("client-v1.mjs")},
	{name: "Go SDK", mode: "auto", run: runGoSDK},
	{name: "mcp-remote", mode: "legacy", run: bridge("mcp-remote/dist/proxy.js", "URL", "--allow-http", "--transport", "http-only")},
	{name: "supergateway", mode: "legacy", run: bridge("supergateway/dist/index.js", "--streamableHttp", "URL", "--logLevel", "none")},
}

// speaks is the revision that the client should end at with a server that speaks the newest revision modern or not.
func (c client) speaks(modern bool) string {
	if c.mode == "legacy" || c.mode == "auto" && !modern {
		return versionLegacy
	}
	return versionModern
}

// target is an endpoint that clients are pointed at.
type target struct {
	url string
	// modern is whether it serves the newest revision.
	modern bool
}

// script runs one of the scripts beside package.json.
func script(file string, args ...string) driver {
	return func(ctx context.Context, n node, c client, t target, o process.Options) []scenario {
		mode := c.mode
		if mode == "modern" {
			mode = versionModern
		}
		o.Program = n.program()
		o.Args = append([]string{n.path("clients", file)}, args...)
		o.Env = []string{
			"URL=" + t.url, "MODE=" + mode, "VERSION=" + c.speaks(t.modern), "TOOL=" + theTool, "PROMPT=" + thePrompt, "URI=" + theResource,
			"NO_COLOR=1", "MCP_REMOTE_CONFIG_DIR=" + o.Dir + "/mcp-remote",
		}
		p, err := process.Start(o)
		if err != nil {
			return complete(nil, err)
		}
		output, err := p.Wait(ctx)
		return complete(parseSteps(output), err)
	}
}

// bridge puts a program that turns stdio into HTTP between the script and the endpoint. URL among its arguments stands for that.
func bridge(program string, args ...string) driver {
	return func(ctx context.Context, n node, c client, t target, o process.Options) []scenario {
		command := []string{n.program(), n.path("node_modules", program)}
		for _, arg := range args {
			if arg == "URL" {
				arg = t.url
			}
			command = append(command, arg)
		}
		return script("client-v1.mjs", command...)(ctx, n, c, t, o)
	}
}

// parseSteps reads the lines of a script.
func parseSteps(output []byte) []scenario {
	var steps []scenario
	for lines := bufio.NewScanner(bytes.NewReader(output)); lines.Scan(); {
		var line struct {
			Step, Error string
			OK          bool
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err == nil && line.Step != "" {
			steps = append(steps, scenario{name: line.Step, passed: line.OK, why: line.Error})
		}
	}
	return steps
}

// runInspector runs the inspector once for each step, as its command line has it.
func runInspector(ctx context.Context, n node, c client, t target, o process.Options) []scenario {
	inspect := func(method string, args ...string) (gjson.Result, error) {
		run := o
		run.Name += "-" + strings.ReplaceAll(method, "/", "-")
		run.Program = n.program()
		run.Args = append([]string{
			n.path("node_modules", ".bin", "mcp-inspector"), "--cli", "--server-url", t.url, "--transport", "http",
			"--protocol-era", c.mode, "--format", "json", "-q", "--method", method,
		}, args...)
		p, err := process.Start(run)
		if err != nil {
			return gjson.Result{}, err
		}
		output, err := p.Wait(ctx)
		return gjson.GetBytes(output, "result"), err
	}
	initialized, err := inspect("initialize")
	steps := []scenario{step("connect", err)}
	if err != nil {
		return complete(steps, nil)
	}
	steps = append(steps, step("negotiate", want(initialized.Get("protocolVersion").Str, c.speaks(t.modern))))

	for _, s := range []struct {
		name, method string
		args         []string
		path, says   string
	}{
		{"list", "tools/list", nil, "tools.#.name", `"` + theTool + `"`},
		{"call", "tools/call", []string{"--tool-name", theTool}, "content.0.text", theToolSays},
		{"read", "resources/read", []string{"--uri", theResource}, "contents.0.text", theResourceSays},
		{"prompt", "prompts/get", []string{"--prompt-name", thePrompt}, "messages.0.content.text", thePromptSays},
	} {
		result, err := inspect(s.method, s.args...)
		if err == nil {
			err = contains(result.Get(s.path).Raw, s.says)
		}
		steps = append(steps, step(s.name, err))
	}
	return steps
}

// runGoSDK is a client with the library that the backend is written with.
func runGoSDK(ctx context.Context, _ node, c client, t target, _ process.Options) []scenario {
	session, err := mcp.NewClient(&mcp.Implementation{Name: "vmcp-conformance", Version: "1"}, nil).
		Connect(ctx, &mcp.StreamableClientTransport{Endpoint: t.url, MaxRetries: -1}, nil)
	steps := []scenario{step("connect", err)}
	if err != nil {
		return complete(steps, nil)
	}
	defer session.Close() //nolint:errcheck // the steps are what counts
	steps = append(steps, step("negotiate", want(session.InitializeResult().ProtocolVersion, c.speaks(t.modern))))

	found := false
	for tool, err := range session.Tools(ctx, nil) {
		if err != nil {
			return complete(append(steps, step("list", err)), nil)
		}
		found = found || tool.Name == theTool
	}
	if !found {
		err = errors.New(theTool + " is not among the tools")
	}
	steps = append(steps, step("list", err))

	called, err := session.CallTool(ctx, &mcp.CallToolParams{Name: theTool, Arguments: map[string]any{}})
	steps = append(steps, step("call", says(called, err, theToolSays)))
	read, err := session.ReadResource(ctx, &mcp.ReadResourceParams{URI: theResource})
	steps = append(steps, step("read", says(read, err, theResourceSays)))
	prompted, err := session.GetPrompt(ctx, &mcp.GetPromptParams{Name: thePrompt})
	return append(steps, step("prompt", says(prompted, err, thePromptSays)))
}

// says is nil when a call succeeded and its result contains the text.
func says(result any, err error, text string) error {
	if err != nil {
		return err
	}
	raw, err := json.Marshal(result)
	return errors.Join(err, contains(string(raw), text))
}

func contains(got, text string) error {
	if !strings.Contains(got, text) {
		return fmt.Errorf("%q is not in %.200s", text, got)
	}
	return nil
}

func want(got, want string) error {
	if got != want {
		return fmt.Errorf("negotiated %q, want %q", got, want)
	}
	return nil
}

func step(name string, err error) scenario {
	s := scenario{name: name, passed: err == nil}
	if err != nil {
		s.why = err.Error()
	}
	return s
}

// complete adds the steps that a client did not come to.
func complete(steps []scenario, err error) []scenario {
	done := map[string]bool{}
	for _, s := range steps {
		done[s.name] = true
	}
	why := "not reached"
	if err != nil {
		why = err.Error()
	}
	for _, name := range clientSteps {
		if !done[name] {
			steps = append(steps, scenario{name: name, why: why})
			why = "not reached"
		}
	}
	return steps
}
