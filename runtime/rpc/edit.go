// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"cmp"
	"slices"
)

// Edit replaces the bytes at a place. An edit whose place is empty (Start equals End) inserts.
type Edit struct {
	At   Span
	Text []byte
}

// Splice appends raw with the edits made to dst. The places must not overlap; their order does not matter, except that insertions at
// the same place are made in the order given.
func Splice(dst, raw []byte, edits ...Edit) []byte {
	if len(edits) > 1 {
		slices.SortStableFunc(edits, func(a, b Edit) int { return cmp.Compare(a.At.Start, b.At.Start) })
	}
	at := 0
	for _, e := range edits {
		dst = append(dst, raw[at:e.At.Start]...)
		dst = append(dst, e.Text...)
		at = e.At.End
	}
	return append(dst, raw[at:]...)
}

// SetMember is the edit that gives a member of the object at the place at a value: the present value is replaced, or the member is
// put first. present is the place of the present value, if there is one.
func SetMember(raw []byte, at, present Span, name string, value []byte) Edit {
	if present.Exists() {
		return Edit{At: present, Text: value}
	}
	text := make([]byte, 0, len(name)+len(value)+4)
	text = append(text, '"')
	text = append(text, name...)
	text = append(text, `":`...)
	text = append(text, value...)
	if !isEmptyObject(raw, at) {
		text = append(text, ',')
	}
	return Edit{At: Span{at.Start + 1, at.Start + 1}, Text: text}
}

func isEmptyObject(raw []byte, at Span) bool {
	s := scanner{raw: raw[:at.End], pos: at.Start + 1}
	return s.blanks() == '}'
}
