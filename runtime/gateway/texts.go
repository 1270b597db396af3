// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
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
	empty      []byte // the result of the modern era that says nothing

	instructions string // of the gateway's owner
}

func newTexts(o Options) texts {
	info := encodeAny(map[string]string{"name": o.Name, "version": o.Version})
	var t texts
	t.serverInfo = info
	t.meta = []byte(`"_meta":{"` + mcp.MetaKeyServerInfo + `":` + string(info) + `}`)
	t.instructions = o.Instructions
	t.empty = []byte(`{` + completeText + `,` + string(t.meta) + `}`)
	return t
}

// welcome is what a gateway says of itself in the handshake. Which backends are missing belongs to it: a model that misses a tool should
// know that it may come back.
type welcome struct {
	initialize []byte // the result of initialize, without its protocolVersion, from the comma after it
	discover   []byte // the result of server/discover
	meta       []byte // the member _meta of what is answered about the catalog in the modern era
}

// metaMissing is the member of _meta that names the backends of which nothing is offered at present.
const metaMissing = "vmcp.dev/missingBackends"

// maxMissing is how many missing backends are named.
const maxMissing = 32

func (t *texts) welcome(missing []backend.Key) welcome {
	w := welcome{meta: t.meta}
	instructions := t.instructions
	if len(missing) > 0 {
		names := make([]string, 0, maxMissing)
		for _, key := range missing[:min(len(missing), maxMissing)] {
			names = append(names, key.Name)
		}
		w.meta = []byte(string(t.meta[:len(t.meta)-1]) + `,"` + metaMissing + `":` + string(encodeAny(names)) + `}`)
		notice := "Not available at present, so that their tools, prompts and resources are missing here: " + strings.Join(names, ", ")
		if more := len(missing) - len(names); more > 0 {
			notice += fmt.Sprintf(" and %d more", more)
		}
		instructions = strings.TrimLeft(instructions+"\n\n"+notice+".", "\n")
	}
	if instructions != "" {
		instructions = `,"instructions":` + string(encodeAny(instructions))
	}
	w.initialize = []byte(`,"capabilities":` + capabilitiesText + `,"serverInfo":` + string(t.serverInfo) + instructions + `}`)
	w.discover = []byte(`{"supportedVersions":` + string(encodeAny(era.Supported())) + `,"capabilities":` + capabilitiesText + instructions +
		`,` + completeText + `,` + cacheText + `,` + string(w.meta) + `}`)
	return w
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
