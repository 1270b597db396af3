// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sse

import "bytes"

// Append appends an event to dst: its id, unless that is empty, and its data, a line of the stream for each of its own lines. The id must
// have no line ends.
func Append(dst []byte, id string, data []byte) []byte {
	dst = append(dst, "event: message\n"...)
	if id != "" {
		dst = append(dst, "id: "...)
		dst = append(dst, id...)
		dst = append(dst, '\n')
	}
	for {
		i := lineEnd(data)
		dst = append(dst, "data: "...)
		if i < 0 {
			dst = append(dst, data...)
			return append(dst, "\n\n"...)
		}
		dst = append(dst, data[:i]...)
		dst = append(dst, '\n')
		if bytes.HasPrefix(data[i:], []byte("\r\n")) {
			i++
		}
		data = data[i+1:]
	}
}

// Comment is a line that means nothing. Written now and then, it keeps intermediaries from closing a quiet stream.
const Comment = ":\n\n"
