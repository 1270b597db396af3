// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"bytes"

	"github.com/tidwall/gjson"
)

// routeLine routes one line of the server's output.
func (s *session) routeLine(line []byte) {
	if line[0] == '[' { // a batch, in revision 2025-03-26 only
		if batch := gjson.ParseBytes(line); gjson.ValidBytes(line) {
			for _, element := range batch.Array() {
				s.routeMessage([]byte(element.Raw))
			}
			return
		}
	}
	s.routeMessage(line)
}

func (s *session) routeMessage(data []byte) {
	m, err := parseMessage(data)
	if err != nil {
		s.log.Warn("The server wrote a line to its standard output that is no MCP message",
			"error", err.Error(), "line", string(bytes.ToValidUTF8(data[:min(len(data), 200)], []byte("?"))))
		return
	}
	if m.kind == kindResponse {
		if c := s.take(m.id); c != nil {
			c.response <- m.raw
		} else {
			s.log.Debug("The server answered a request that nobody waits for", "id", m.rawID)
		}
		return
	}
	if s.streamOf(m).push(m.raw) {
		return
	}
	s.mu.Lock()
	s.lost++
	s.mu.Unlock()
	if m.kind == kindRequest { // the server waits for an answer; a notification can get lost
		select {
		case s.corrections <- errorResponse(m.rawID, codeInternalError, "the client does not take requests"):
		default: // it does not read either
		}
	}
}

// streamOf says on which one stream a message from the server goes; never on several (2025-11-25, basic/transports, multiple
// connections). Nothing on stdio says which call a message belongs to but a progress token, so the rest is taken as
// part of the only call under way, if there is only one, and as the session's otherwise.
func (s *session) streamOf(m message) *queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.method == "notifications/progress" {
		if c := s.tokens[m.progressToken()]; c != nil && c.streams {
			return c.messages
		}
		return s.stream
	}
	if m.concernsSession() {
		return s.stream
	}
	if len(s.calls) == 1 {
		for _, c := range s.calls {
			if c.streams {
				return c.messages
			}
		}
	}
	return s.stream
}
