// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"

	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// typeLink is the type of a content block that names a resource. Revision 2025-03-26 does not have it, and a client of that revision
// cannot read a result that contains one.
const typeLink = "resource_link"

// withoutLinks is the result of a tool or a prompt with a text in the place of each link, for clients of revision 2025-03-26.
func withoutLinks(m rpc.Message) rpc.Message {
	if !bytes.Contains(m.Raw, []byte(typeLink)) {
		return m
	}
	var edits []rpc.Edit
	block := func(at rpc.Span) bool {
		found := rpc.Find(m.Raw, at, "type", "uri", "name", "description", "annotations")
		if kind, _ := rpc.Text(found[0].Of(m.Raw)); kind == typeLink {
			edits = append(edits, rpc.Edit{At: at, Text: linkText(m.Raw, found[1], found[2], found[3], found[4])})
		}
		return true
	}
	found := rpc.Find(m.Raw, m.Body, "content", "messages")
	rpc.Elements(m.Raw, found[0], block)
	rpc.Elements(m.Raw, found[1], func(message rpc.Span) bool {
		return block(rpc.Find(m.Raw, message, "content")[0])
	})
	if len(edits) == 0 {
		return m
	}
	edited, err := rpc.Parse(rpc.Splice(nil, m.Raw, edits...))
	if err != nil {
		return m // cannot be: JSON took the place of JSON
	}
	return edited
}

// linkText is the text block that stands for a link: what it is called, where it is, and what it is about.
func linkText(raw []byte, uri, name, description, annotations rpc.Span) []byte {
	text, _ := rpc.Text(uri.Of(raw))
	if called, _ := rpc.Text(name.Of(raw)); called != "" {
		text = called + ": " + text
	}
	if about, _ := rpc.Text(description.Of(raw)); about != "" {
		text += "\n" + about
	}
	block := append([]byte(`{"type":"text","text":`), encodeAny(text)...)
	if annotations.Exists() {
		block = append(append(block, `,"annotations":`...), annotations.Of(raw)...)
	}
	return append(block, '}')
}
