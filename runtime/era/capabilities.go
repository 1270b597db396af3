// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package era

import (
	"encoding/json"
	"strings"

	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// Capabilities are what a client can be asked for, as far as the gateway relays it: a set of bits, small enough for a session's id.
type Capabilities uint8

// The bits of Capabilities (MCP 2025-11-25 and 2026-07-28, ClientCapabilities).
const (
	ElicitForm Capabilities = 1 << iota
	ElicitURL
	Sampling
	SamplingTools
	SamplingContext
	Roots
	RootsListChanged

	allCapabilities = 1<<iota - 1
)

// ReadCapabilities reads the ClientCapabilities object at a place of a message.
func ReadCapabilities(raw []byte, at rpc.Span) Capabilities {
	var c Capabilities
	found := rpc.Find(raw, at, "elicitation", "sampling", "roots")
	if isObject(raw, found[0]) {
		modes := rpc.Find(raw, found[0], "form", "url")
		if isObject(raw, modes[1]) {
			c |= ElicitURL
		}
		if isObject(raw, modes[0]) || c&ElicitURL == 0 { // {} stands for form
			c |= ElicitForm
		}
	}
	if isObject(raw, found[1]) {
		c |= Sampling
		more := rpc.Find(raw, found[1], "tools", "context")
		if isObject(raw, more[0]) {
			c |= SamplingTools
		}
		if isObject(raw, more[1]) {
			c |= SamplingContext
		}
	}
	if isObject(raw, found[2]) {
		c |= Roots
		if changed := rpc.Find(raw, found[2], "listChanged"); string(changed[0].Of(raw)) == "true" {
			c |= RootsListChanged
		}
	}
	return c
}

func isObject(raw []byte, at rpc.Span) bool { return at.Exists() && raw[at.Start] == '{' }

// Has says whether all of the bits are set.
func (c Capabilities) Has(bits Capabilities) bool { return c&bits == bits }

// JSON is the ClientCapabilities object. It must not be changed.
func (c Capabilities) JSON() json.RawMessage { return capabilitiesJSON[c&allCapabilities] }

var capabilitiesJSON = func() (all [allCapabilities + 1]json.RawMessage) {
	for c := range all {
		all[c] = Capabilities(c).encode()
	}
	return all
}()

func (c Capabilities) encode() json.RawMessage {
	var members []string
	switch {
	case c.Has(ElicitForm | ElicitURL):
		members = append(members, `"elicitation":{"form":{},"url":{}}`)
	case c.Has(ElicitURL):
		members = append(members, `"elicitation":{"url":{}}`)
	case c.Has(ElicitForm):
		members = append(members, `"elicitation":{}`) // what servers from before the modes read as well
	}
	if c.Has(Sampling) {
		var more []string
		if c.Has(SamplingTools) {
			more = append(more, `"tools":{}`)
		}
		if c.Has(SamplingContext) {
			more = append(more, `"context":{}`)
		}
		members = append(members, `"sampling":{`+strings.Join(more, ",")+`}`)
	}
	if c.Has(Roots) {
		more := ""
		if c.Has(RootsListChanged) {
			more = `"listChanged":true`
		}
		members = append(members, `"roots":{`+more+`}`)
	}
	return json.RawMessage("{" + strings.Join(members, ",") + "}")
}

// For says whether a client with these capabilities can be asked by a method.
func (c Capabilities) For(method string) bool {
	switch method {
	case "elicitation/create":
		return c&(ElicitForm|ElicitURL) != 0
	case "sampling/createMessage":
		return c.Has(Sampling)
	case "roots/list":
		return c.Has(Roots)
	default:
		return false
	}
}
