// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/era"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

// stateLife is how long a client may take to repeat a request with the input that a backend needs.
const stateLife = time.Hour

// envelope is what the gateway puts around a backend's requestState (MCP 2026-07-28, multi round-trip requests): the state comes from
// the client, so that it has to be told whether it is the one that was given to this client for this request.
type envelope struct {
	Kind    string          `json:"k"`
	Backend string          `json:"b"`
	Method  string          `json:"m"`
	Name    []byte          `json:"n"` // digest of the tool's or prompt's name or of the URI
	Expires int64           `json:"x"` // seconds
	Inner   json.RawMessage `json:"s"` // the backend's
}

func digest(name string) []byte {
	sum := sha256.Sum256([]byte(name))
	return sum[:16]
}

// wrapState is the JSON string in the place of a backend's.
func (c *call) wrapState(inner []byte) []byte {
	content := encodeAny(envelope{
		Kind: c.target.Kind, Backend: c.target.Name, Method: c.m.Method, Name: digest(c.v.Name),
		Expires: time.Now().Add(stateLife).Unix(), Inner: inner,
	})
	return encodeAny(c.g.sealer.Seal(session.PurposeState, c.principal, content))
}

// resume readies a request that is repeated with input: that has to be results by their keys, and in the place of the state, which need
// not be there, comes the backend's own. Garbage does not go on: a backend may answer it as if the gateway's headers were wrong.
func (c *call) resume() *era.Refusal {
	if !c.isModern() {
		return nil
	}
	if at := c.v.InputResponses; at.Exists() && !holdsObjects(c.m.Raw, at) {
		return invalidParams("params.inputResponses is no object of results")
	}
	if !c.v.RequestState.Exists() {
		return nil
	}
	text, ok := rpc.Text(c.v.RequestState.Of(c.m.Raw))
	if !ok {
		return invalidParams("params.requestState is no string")
	}
	var e envelope
	content, err := c.g.sealer.Open(session.PurposeState, c.principal, text)
	if err != nil || json.Unmarshal(content, &e) != nil {
		return invalidParams("params.requestState is none that the gateway has given to this client")
	}
	own := backend.Key{Kind: e.Kind, Name: e.Backend}
	switch {
	case time.Now().Unix() > e.Expires:
		return invalidParams("params.requestState has expired; make the request without it")
	case own != c.target, e.Method != c.m.Method, !bytes.Equal(e.Name, digest(c.v.Name)):
		return invalidParams("params.requestState belongs to another request")
	}
	c.request.Edits = append(c.request.Edits, rpc.Edit{At: c.v.RequestState, Text: e.Inner})
	return nil
}

// holdsObjects says whether a value is an object all of whose members are objects.
func holdsObjects(raw []byte, at rpc.Span) bool {
	ok := raw[at.Start] == '{'
	rpc.Members(raw, at, func(m rpc.Member) bool {
		ok = ok && raw[m.Value.Start] == '{'
		return ok
	})
	return ok
}
