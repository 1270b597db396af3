// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/config"
	"github.com/vmcp-dev/vmcp-operator/runtime/discovery"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
)

// mood is how a place answers.
type mood int

const (
	well mood = iota
	slow
	hanging
	gone
	busy
	garbled
)

const moods = int(garbled) + 1

// place is an MCP server of the world.
type place struct {
	mood  mood
	wants string // the value of Authorization that it takes; empty takes any
	tools []string
}

// verdict is what is true of the place for who comes with a value of Authorization.
func (p *place) verdict(authorization string) v1alpha1.BackendStatus {
	switch {
	case p.mood == hanging || p.mood == gone || p.mood == busy || p.mood == garbled:
		return v1alpha1.BackendUnavailable
	case p.wants != "" && p.wants != authorization:
		return v1alpha1.BackendUnauthenticated
	case p.mood == slow:
		return v1alpha1.BackendDegraded
	default:
		return v1alpha1.BackendReady
	}
}

// world is all that a control deals with, but the gateway: servers, the API server's lists of backends, the configuration, the other
// replica. It is an http.RoundTripper, so that a test of it needs neither a network nor real time.
type world struct {
	configs chan *configv1alpha1.RuntimeConfiguration
	initial *configv1alpha1.RuntimeConfiguration

	mu     sync.Mutex
	places map[string]*place // by host
	asked  int               // requests of all kinds
	called int               // calls of tools

	findings map[string]discovery.Finding // by group
	watching map[string][]chan struct{}   // discoveries by group

	reports  []status.Report
	duty     status.Duty
	dutyNews chan struct{}
}

// Initial implements config.Source.
func (w *world) Initial() *configv1alpha1.RuntimeConfiguration { return w.initial }

// Run implements config.Source.
func (w *world) Run(ctx context.Context, publish func(config.Update)) error {
	for {
		select {
		case c := <-w.configs:
			publish(config.Update{Configuration: c})
		case <-ctx.Done():
			return nil
		}
	}
}

// watch is a discovery of a group.
type watch struct {
	*world
	group string
}

// Run implements discovery.Discoverer.
func (d watch) Run(ctx context.Context, publish func(discovery.Finding)) error {
	news := make(chan struct{}, 1)
	d.mu.Lock()
	d.watching[d.group] = append(d.watching[d.group], news)
	d.mu.Unlock()
	for {
		d.mu.Lock()
		f := d.findings[d.group]
		d.mu.Unlock()
		publish(f)
		select {
		case <-news:
		case <-ctx.Done():
			return nil
		}
	}
}

// find has the discoveries of a group find something else.
func (w *world) find(group string, f discovery.Finding) {
	slices.SortFunc(f.Targets, func(a, b backend.Target) int { return a.Compare(b.Key) })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.findings[group] = f
	for _, news := range w.watching[group] {
		signal(news)
	}
}

// reporter is the world as a status.Reporter.
type reporter struct{ *world }

// Report implements status.Reporter.
func (r reporter) Report(report status.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reports = append(r.reports, report)
}

// last is the last report.
func (w *world) last() status.Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reports[len(w.reports)-1]
}

// Run implements status.Reporter.
func (reporter) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Duty implements status.Replica.
func (w *world) Duty() status.Duty {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.duty
}

// News implements status.Replica.
func (w *world) News() []backend.Key { return nil }

// Changed implements status.Replica.
func (w *world) Changed() <-chan struct{} { return w.dutyNews }

// takeDuty has this replica begin to report anew, or another one.
func (w *world) takeDuty(reporting bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.duty = status.Duty{Reporting: reporting, Since: time.Now()}
	signal(w.dutyNews)
}

func (w *world) alter(host string, change func(*place)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := *w.places[host]
	change(&p)
	w.places[host] = &p
}

func (w *world) at(host string) place {
	w.mu.Lock()
	defer w.mu.Unlock()
	return *w.places[host]
}

// requests are how many came to the places so far, and how many of them were calls of tools.
func (w *world) requests() (asked, called int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked, w.called
}

// RoundTrip implements http.RoundTripper.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	var m struct {
		ID     json.RawMessage
		Method string
		Params struct{ Name string }
	}
	body, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, err
	}
	w.mu.Lock()
	p := *w.places[r.URL.Host]
	w.asked++
	if m.Method == "tools/call" {
		w.called++
	}
	w.mu.Unlock()
	switch p.mood {
	case well:
	case hanging:
		<-r.Context().Done()
		return nil, r.Context().Err()
	case slow:
		select {
		case <-time.After(3 * time.Second):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	case gone:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case busy:
		return respond(r, http.StatusServiceUnavailable, "text/plain", "busy"), nil
	case garbled:
		return respond(r, http.StatusOK, "text/html", "<html>"), nil
	}
	if p.wants != "" && r.Header.Get("Authorization") != p.wants {
		return respond(r, http.StatusUnauthorized, "text/plain", "no"), nil
	}
	return respond(r, http.StatusOK, "application/json", fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,%s}`, m.ID, p.answer(r.URL.Host, m.Method, m.Params.Name))), nil
}

func respond(r *http.Request, code int, contentType, body string) *http.Response {
	return &http.Response{
		StatusCode: code, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)), Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
}

// answer is the result or the error of a request to a server of MCP 2026-07-28.
func (p place) answer(host, method, tool string) string {
	switch method {
	case "server/discover":
		return `"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}`
	case "tools/list":
		var tools []string
		for _, t := range p.tools {
			tools = append(tools, fmt.Sprintf(`{"name":%q,"inputSchema":{"type":"object"}}`, t))
		}
		return `"result":{"resultType":"complete","tools":[` + strings.Join(tools, ",") + `]}`
	case "tools/call":
		if slices.Contains(p.tools, tool) {
			return fmt.Sprintf(`"result":{"resultType":"complete","content":[{"type":"text","text":%q}]}`, host+"/"+tool)
		}
		return `"error":{"code":-32602,"message":"no such tool"}`
	default:
		return `"error":{"code":-32601,"message":"no such method"}`
	}
}

var errListing = errors.New("the list of backends cannot be read")
