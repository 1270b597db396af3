// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
)

// modernVersions are the revisions of the modern era that the gateway speaks, the best first.
var modernVersions = []string{mcp.ProtocolVersion20260728}

// verdictLife is how old a verdict has to be before a single odd answer brings about another probe.
const verdictLife = 5 * time.Second

// verdict is what is known of how a backend speaks. It is never changed.
type verdict struct {
	era relay.Era
	// version is the revision to speak; empty with the legacy era, where initialize finds it.
	version string
	// capabilities are the server's; those of a legacy server are in its initialize result.
	capabilities capabilities
	reached      time.Time
	// refusal is the error of a server that speaks of the modern era and yet refuses server/discover.
	refusal error

	// header and metaPrefix are what all requests of the modern era have in common.
	header     http.Header
	metaPrefix []byte
}

// capabilities are those of the server that decide what is asked of it.
type capabilities struct {
	Tools     *listCapability `json:"tools"`
	Prompts   *listCapability `json:"prompts"`
	Resources *listCapability `json:"resources"`
	Logging   *struct{}       `json:"logging"`
}

// listCapability is the capability to have one of the lists.
type listCapability struct {
	ListChanged bool `json:"listChanged"`
	Subscribe   bool `json:"subscribe"`
}

// allLists is assumed of a server that could not be asked.
var allLists = capabilities{
	Tools: &listCapability{ListChanged: true}, Prompts: &listCapability{ListChanged: true},
	Resources: &listCapability{ListChanged: true, Subscribe: true},
}

func (c *Client) legacyVerdict() *verdict { return &verdict{era: relay.Legacy, reached: time.Now()} }

func (c *Client) modernVerdict(version string, has capabilities) *verdict {
	v := &verdict{era: relay.Modern, version: version, capabilities: has, reached: time.Now(), header: c.baseHeader()}
	v.header[mcp.HeaderProtocolVersion] = []string{version}
	v.metaPrefix = fmt.Appendf(nil, `{%q:%q,%q:%s,%q:`, mcp.MetaKeyProtocolVersion, version, mcp.MetaKeyClientInfo, c.info, mcp.MetaKeyClientCapabilities)
	return v
}

// outcome is what a probe of the era found.
type outcome struct {
	verdict *verdict
	// err stands in the place of a verdict: an outage, or a fault of the gateway.
	err error
}

// era is the verdict on the backend; the first caller finds it.
func (c *Client) era(ctx context.Context) (*verdict, error) {
	if v := c.verdict.Load(); v != nil {
		return v, nil
	}
	return c.reconsider(ctx, nil)
}

// reconsider probes the era anew, unless somebody else has done so since the verdict old was read. Without a new verdict the old one stays.
func (c *Client) reconsider(ctx context.Context, old *verdict) (*verdict, error) {
	if c.target.Transport == v1alpha1.TransportSSE { // it went out with the revisions of the legacy era
		c.verdict.CompareAndSwap(nil, c.legacyVerdict())
		return c.verdict.Load(), nil
	}
	select {
	case c.probing <- struct{}{}:
		defer func() { <-c.probing }()
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the backend to say which MCP it speaks: %w", ctx.Err())
	}
	if v := c.verdict.Load(); v != old {
		return v, nil
	}
	found := c.discover(ctx, old)
	if found.err != nil {
		return nil, found.err
	}
	c.verdict.Store(found.verdict)
	if old != nil && old.era != found.verdict.era {
		c.log.Info("the backend speaks MCP of another era than before", "era", found.verdict.era.String())
		c.changes.announce()
		c.inBackground(func() { c.follow(found.verdict) })
	}
	return found.verdict, nil
}

// doubtful says whether a verdict is old enough to be reconsidered.
func (v *verdict) doubtful() bool { return time.Since(v.reached) > verdictLife }

// discover asks the backend which revisions it speaks.
func (c *Client) discover(ctx context.Context, old *verdict) outcome {
	v := c.modernVerdict(modernVersions[0], capabilities{})
	x := c.newExchange(ctx, relay.Modern, methodDiscover)
	defer x.finish()
	r, err := ownRequest(methodDiscover, nil)
	if err != nil {
		return outcome{err: err}
	}
	x.encode(r, v, nil)
	response, err := c.do(x.ctx, http.MethodPost, c.url, c.modernHeader(v, methodDiscover, "", nil, true), x.body)
	if err != nil {
		return outcome{err: x.explain(ctx, err)}
	}
	status := response.StatusCode
	var raw json.RawMessage
	if failed(response) {
		raw = readError(response)
	} else {
		answer, err := x.answer(response)
		if e, ok := errors.AsType[*RPCError](err); ok {
			raw, err = e.encode(), nil
		}
		if _, notMCP := errors.AsType[*NotMCPError](err); err != nil && !notMCP && !errors.Is(err, errTooLarge) {
			return outcome{err: x.explain(ctx, err)}
		}
		if answer != nil {
			raw = slices.Clone(answer.Message.Raw)
			answer.Done()
		}
	}
	return c.judge(status, raw, old)
}

// judge says what an answer to server/discover means (MCP 2026-07-28, versioning, finding out what a server speaks). raw is a JSON-RPC
// response, or something that is none. What counts is what a server says, not that it answered: servers with sessions answer
// server/discover too, and name no modern revision.
func (c *Client) judge(status int, raw []byte, old *verdict) outcome {
	e := parseRPCError(raw)
	switch {
	case status == http.StatusLoopDetected && e != nil: // from a gateway, which says what to do about it
		return outcome{err: c.redacted(e)}
	case aboutCredentials(status):
		return outcome{err: c.statusError(methodDiscover, status)}
	case old == nil && (status == http.StatusInternalServerError || status == http.StatusNotImplemented):
		// There are servers that fall over whatever comes before initialize. That it works is a verdict, too.
		return outcome{verdict: c.legacyVerdict()}
	case status >= 500, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		return outcome{err: c.statusError(methodDiscover, status)}
	}
	if e != nil {
		return c.judgeError(status, e)
	}
	m := parse(raw)
	var result struct {
		SupportedVersions []string     `json:"supportedVersions"`
		Capabilities      capabilities `json:"capabilities"`
	}
	if m.Body.Exists() && json.Unmarshal(m.Body.Of(m.Raw), &result) == nil {
		if version := bestModern(result.SupportedVersions); version != "" {
			return outcome{verdict: c.modernVerdict(version, result.Capabilities)}
		}
	}
	return outcome{verdict: c.legacyVerdict()}
}

func (c *Client) judgeError(status int, e *RPCError) outcome {
	switch e.Code {
	case CodeUnsupportedProtocolVersion:
		var data struct {
			Supported []string `json:"supported"`
		}
		if json.Unmarshal(e.Data, &data) == nil {
			if version := bestModern(data.Supported); version != "" {
				v := c.modernVerdict(version, allLists)
				if version == modernVersions[0] { // which is what it was asked in
					v.refusal = c.redacted(e)
				}
				return outcome{verdict: v}
			}
		}
	case CodeHeaderMismatch, CodeMissingCapability, CodeInvalidParams:
		if status == http.StatusBadRequest { // a modern server that does not like how it is asked
			return outcome{err: c.redacted(e)}
		}
	}
	return outcome{verdict: c.legacyVerdict()}
}

func bestModern(supported []string) string {
	for _, version := range modernVersions {
		if slices.Contains(supported, version) {
			return version
		}
	}
	return ""
}
