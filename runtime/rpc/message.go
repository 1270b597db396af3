// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rpc is JSON-RPC 2.0 as MCP uses it, on bytes: it checks a message once, remembers the places of what a gateway has to know
// or to change, and leaves the rest as the sender wrote it. No number loses a digit and no schema a keyword on the way.
package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Kind is what a message is.
type Kind uint8

// The kinds of messages (JSON-RPC 2.0, sections 4 and 5).
const (
	// Request has an id and is answered.
	Request Kind = iota + 1
	// Notification has no id and is not answered.
	Notification
	// Result is a response that holds a result.
	Result
	// Failure is a response that holds an error.
	Failure
)

// IsResponse says whether the message answers a request.
func (k Kind) IsResponse() bool { return k == Result || k == Failure }

// Message is one JSON-RPC message: its bytes and the places of its members in them.
type Message struct {
	// Raw is the whole message. It is the caller's; nothing is copied.
	Raw  []byte
	Kind Kind
	// Method is empty in a response.
	Method string
	// ID is the place of the id: a string or an integer. It does not exist in a notification. In a Failure it may be null: the
	// request could not be read.
	ID Span
	// Params is the place of an object, if it exists.
	Params Span
	// Body is the place of the result of a Result and of the error of a Failure.
	Body Span
}

// ErrBatch is the error of Parse for an array of messages, which only revision 2025-03-26 of MCP has.
var ErrBatch = errors.New("a batch of messages")

// SyntaxError is the error of Parse for what is no JSON: JSON-RPC's parse error, -32700. Every other error of Parse is an invalid
// request, -32600.
type SyntaxError struct{ Err error }

// Error implements error.
func (e *SyntaxError) Error() string { return e.Err.Error() }

// Unwrap lets errors.Is see the cause.
func (e *SyntaxError) Unwrap() error { return e.Err }

// Parse reads one message and checks all of it. A member of the envelope that comes twice is refused, because readers disagree on
// which of the two counts; so is a batch, with ErrBatch.
func Parse(raw []byte) (Message, error) {
	s := scanner{raw: raw}
	switch s.blanks() {
	case '{':
	case '[':
		if err := s.whole(); err != nil {
			return Message{}, err
		}
		return Message{}, ErrBatch
	default:
		if err := s.whole(); err != nil {
			return Message{}, err
		}
		return Message{}, errors.New("not a JSON object")
	}
	var e envelope
	if err := s.object(MaxDepth, e.note); err != nil {
		return Message{}, &SyntaxError{err}
	}
	if s.blanks(); s.pos != len(raw) {
		return Message{}, &SyntaxError{errSyntax}
	}
	return e.message(raw)
}

// whole skips one value that has to be all there is.
func (s *scanner) whole() error {
	if err := s.value(MaxDepth); err != nil {
		return &SyntaxError{err}
	}
	if s.blanks(); s.pos != len(s.raw) {
		return &SyntaxError{errSyntax}
	}
	return nil
}

// envelope collects the members of a message while it is scanned.
type envelope struct {
	jsonrpc, id, method, params, result, failure Span
	twice                                        bool
}

func (e *envelope) note(m Member) bool {
	var place *Span
	switch key := m.name(); string(key) {
	case "jsonrpc":
		place = &e.jsonrpc
	case "id":
		place = &e.id
	case "method":
		place = &e.method
	case "params":
		place = &e.params
	case "result":
		place = &e.result
	case "error":
		place = &e.failure
	default:
		return true
	}
	e.twice = e.twice || place.Exists()
	*place = m.Value
	return true
}

func (e *envelope) message(raw []byte) (Message, error) {
	m := Message{Raw: raw, ID: e.id}
	if e.twice {
		return Message{}, errors.New("a member of the message comes twice")
	}
	if string(e.jsonrpc.Of(raw)) != `"2.0"` {
		return Message{}, errors.New(`"jsonrpc" is not "2.0"`)
	}
	if e.params.Exists() {
		// MCP has params by name only; null stands for none.
		switch raw[e.params.Start] {
		case '{':
			m.Params = e.params
		case 'n':
		default:
			return Message{}, errors.New(`"params" is not an object`)
		}
	}
	var err error
	if e.method.Exists() {
		err = e.call(&m)
	} else {
		err = e.response(&m)
	}
	if err != nil {
		return Message{}, err
	}
	return m, nil
}

var errBadID = errors.New(`"id" is neither a string nor an integer`)

// call makes m a request or a notification.
func (e *envelope) call(m *Message) error {
	var ok bool
	if m.Method, ok = Text(e.method.Of(m.Raw)); !ok || m.Method == "" {
		return errors.New(`"method" is not a name`)
	}
	if e.result.Exists() || e.failure.Exists() {
		return errors.New("both a request and a response")
	}
	if !e.id.Exists() {
		m.Kind = Notification
		return nil
	}
	m.Kind = Request
	if !isID(e.id.Of(m.Raw)) {
		return errBadID
	}
	return nil
}

// response makes m a Result or a Failure.
func (e *envelope) response(m *Message) error {
	switch {
	case e.result.Exists() && e.failure.Exists():
		return errors.New("both a result and an error")
	case e.result.Exists():
		m.Kind, m.Body = Result, e.result
		if !isID(e.id.Of(m.Raw)) {
			return errBadID
		}
		return nil
	case e.failure.Exists():
		m.Kind, m.Body = Failure, e.failure
		if m.Raw[e.failure.Start] != '{' {
			return errors.New(`"error" is not an object`)
		}
		if e.id.Exists() && m.Raw[e.id.Start] != 'n' && !isID(e.id.Of(m.Raw)) {
			return errBadID
		}
		return nil
	default:
		return errors.New("neither a request, a notification nor a response")
	}
}

// isID says whether an id, or a progress token, is a string or an integer (MCP, basic, requests).
func isID(raw []byte) bool {
	if len(raw) == 0 {
		return false
	}
	return raw[0] == '"' || (raw[0] == '-' || raw[0]-'0' <= 9) && !bytes.ContainsAny(raw, ".eE")
}

// Token is the key of an id or a progress token: equal for equal values however they are written, and different for 1 and "1". It is empty
// for what is neither a string nor an integer.
func Token(raw []byte) string {
	if !isID(raw) {
		return ""
	}
	if text, ok := Text(raw); ok {
		return "s" + text
	}
	if string(raw) == "-0" {
		return "n0"
	}
	return "n" + string(raw)
}

// Text decodes a JSON string that Parse has checked. It returns false for any other value.
func Text(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return string(inner), true
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return "", false
	}
	return text, true
}

// name is the key of a member, decoded.
func (m Member) name() []byte {
	if !m.Escaped {
		return m.Key
	}
	text, _ := Text(fmt.Appendf(nil, `"%s"`, m.Key))
	return []byte(text)
}

// Is says whether the member's key is name.
func (m Member) Is(name string) bool { return string(m.name()) == name }

// Find returns the places of members of the object at the place at, in the order of names; the last of equal ones counts, as in
// encoding/json. There may be at most 8 names.
func Find(raw []byte, at Span, names ...string) (found [8]Span) {
	Members(raw, at, func(m Member) bool {
		key := m.name()
		for i, name := range names {
			if string(key) == name {
				found[i] = m.Value
				break
			}
		}
		return true
	})
	return found
}
