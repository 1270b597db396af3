// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/runtime/era"
)

// Parts of messages that are never different.
var (
	answerHead  = []byte(`{"jsonrpc":"2.0","id":`)
	resultHead  = []byte(`,"result":`)
	errorHead   = []byte(`,"error":`)
	answerTail  = []byte(`}`)
	emptyResult = []byte(`{}`)
)

const (
	// capabilitiesText is what the gateway can do in both eras. Backends come and go, so that all of it is there always, with empty
	// lists if need be.
	capabilitiesText = `{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true},"completions":{},"logging":{}}`

	// cacheText is what the modern era wants of the results that may be cached: these may not, since the next change of a backend
	// is a change of them.
	cacheText = `"ttlMs":0,"cacheScope":"private"`

	completeText = `"resultType":"complete"`
)

// texts are the parts of messages that differ between gateways only.
type texts struct {
	serverInfo []byte // the value of serverInfo
	meta       []byte // the member _meta of a result of the modern era that has no other
	initialize []byte // the result of initialize, without its protocolVersion, from the comma after it
	discover   []byte // the result of server/discover
	empty      []byte // the result of the modern era that says nothing
}

func newTexts(o Options) texts {
	info := encodeAny(map[string]string{"name": o.Name, "version": o.Version})
	var t texts
	t.serverInfo = info
	t.meta = []byte(`"_meta":{"` + mcp.MetaKeyServerInfo + `":` + string(info) + `}`)
	instructions := ""
	if o.Instructions != "" {
		instructions = `,"instructions":` + string(encodeAny(o.Instructions))
	}
	t.initialize = []byte(`,"capabilities":` + capabilitiesText + `,"serverInfo":` + string(info) + instructions + `}`)
	t.discover = []byte(`{"supportedVersions":` + string(encodeAny(era.Supported())) + `,"capabilities":` + capabilitiesText + instructions +
		`,` + completeText + `,` + cacheText + `,` + string(t.meta) + `}`)
	t.empty = []byte(`{` + completeText + `,` + string(t.meta) + `}`)
	return t
}

// info is serverInfo, to be encoded.
func (t *texts) info() json.RawMessage { return t.serverInfo }

// encodeAny encodes strings, and lists and maps of them, which cannot fail.
func encodeAny(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}
