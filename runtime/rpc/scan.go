// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"
)

// MaxDepth bounds how deep arrays and objects of a message may nest. It keeps the scanner's recursion, and that of everybody who
// decodes the message after it, within a small stack.
const MaxDepth = 128

// Errors of the scanner. They say nothing of the text, which may hold secrets.
var (
	errSyntax  = errors.New("not JSON (RFC 8259)")
	errTooDeep = errors.New("arrays and objects are nested too deep")
)

// Span is a place in a message: the bytes [Start, End). The zero Span is no place.
type Span struct{ Start, End int }

// Exists says whether there is anything at the place.
func (s Span) Exists() bool { return s.End > s.Start }

// Of is the text at the place in raw.
func (s Span) Of(raw []byte) []byte { return raw[s.Start:s.End] }

// Member is one member of an object.
type Member struct {
	// Key is the text between the quotes. It is escaped as the sender wrote it, if Escaped.
	Key     []byte
	Escaped bool
	// Value is the place of the value, in the text that was scanned.
	Value Span
}

// Members calls f for each member of the object at the place at, in their order, until f returns false. The whole of at has been
// checked by Parse, so that nothing can be wrong any more; a place that holds no object has no members.
func Members(raw []byte, at Span, f func(Member) bool) {
	if !at.Exists() || raw[at.Start] != '{' {
		return
	}
	s := scanner{raw: raw[:at.End], pos: at.Start, checked: true}
	_ = s.object(MaxDepth, f) // checked before
}

// Elements calls f for the place of each element of the array at the place at, in their order, until f returns false. As with Members
// the whole of at has been checked by Parse, which knows a batch by ErrBatch; a place that holds no array has no elements.
func Elements(raw []byte, at Span, f func(Span) bool) {
	s := scanner{raw: raw[:at.End], pos: at.Start, checked: true}
	if s.blanks() != '[' {
		return
	}
	s.pos++
	if s.blanks() == ']' {
		return
	}
	for {
		s.blanks()
		start := s.pos
		if s.value(MaxDepth) != nil || !f(Span{start, s.pos}) || s.blanks() != ',' {
			return
		}
		s.pos++
	}
}

// scanner checks JSON and finds the ends of values, without decoding them.
type scanner struct {
	raw []byte
	pos int
	// checked says that the text was scanned before, so that strings need only be skipped. They are most of a long message.
	checked bool
}

// blanks skips insignificant whitespace and returns the byte that follows, 0 at the end.
func (s *scanner) blanks() byte {
	for s.pos < len(s.raw) {
		switch c := s.raw[s.pos]; c {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

// value skips one value. depth is how many levels may still be entered.
func (s *scanner) value(depth int) error {
	switch c := s.blanks(); {
	case c == '"' && s.checked:
		return s.skipText()
	case c == '"':
		_, _, err := s.text()
		return err
	case c == '{':
		return s.object(depth, nil)
	case c == '[':
		return s.array(depth)
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	default:
		return s.number()
	}
}

// object skips an object. It tells f, unless nil, of the members until f returns false.
func (s *scanner) object(depth int, f func(Member) bool) error {
	if depth == 0 {
		return errTooDeep
	}
	s.pos++ // {
	if s.blanks() == '}' {
		s.pos++
		return nil
	}
	for {
		if s.blanks() != '"' {
			return errSyntax
		}
		key, escaped, err := s.text()
		if err != nil {
			return err
		}
		if s.blanks() != ':' {
			return errSyntax
		}
		s.pos++
		s.blanks()
		start := s.pos
		if err := s.value(depth - 1); err != nil {
			return err
		}
		if f != nil && !f(Member{Key: key.Of(s.raw), Escaped: escaped, Value: Span{start, s.pos}}) {
			return nil
		}
		switch s.blanks() {
		case ',':
			s.pos++
		case '}':
			s.pos++
			return nil
		default:
			return errSyntax
		}
	}
}

func (s *scanner) array(depth int) error {
	if depth == 0 {
		return errTooDeep
	}
	s.pos++ // [
	if s.blanks() == ']' {
		s.pos++
		return nil
	}
	for {
		if err := s.value(depth - 1); err != nil {
			return err
		}
		switch s.blanks() {
		case ',':
			s.pos++
		case ']':
			s.pos++
			return nil
		default:
			return errSyntax
		}
	}
}

func (s *scanner) literal(word string) error {
	if len(s.raw)-s.pos < len(word) || string(s.raw[s.pos:s.pos+len(word)]) != word {
		return errSyntax
	}
	s.pos += len(word)
	return nil
}

// number skips a number (RFC 8259, section 6).
func (s *scanner) number() error {
	if s.peek() == '-' {
		s.pos++
	}
	switch c := s.peek(); {
	case c == '0':
		s.pos++
	case c < '1' || c > '9':
		return errSyntax
	default:
		s.digits()
	}
	if s.peek() == '.' {
		s.pos++
		if !s.digits() {
			return errSyntax
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if !s.digits() {
			return errSyntax
		}
	}
	return nil
}

func (s *scanner) peek() byte {
	if s.pos < len(s.raw) {
		return s.raw[s.pos]
	}
	return 0
}

// digits skips digits and says whether there were any.
func (s *scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.raw) && s.raw[s.pos]-'0' <= 9 {
		s.pos++
	}
	return s.pos > start
}

// skipText skips a string of checked text: it ends at the first quote that an even number of backslashes precedes.
func (s *scanner) skipText() error {
	for {
		s.pos++
		i := bytes.IndexByte(s.raw[s.pos:], '"')
		if i < 0 {
			return errSyntax
		}
		s.pos += i
		start := s.pos
		for s.raw[start-1] == '\\' {
			start--
		}
		if (s.pos-start)%2 == 0 {
			s.pos++
			return nil
		}
	}
}

// text skips a string. It returns the place between the quotes, and whether anything in it is escaped.
func (s *scanner) text() (inner Span, escaped bool, err error) {
	s.pos++ // "
	start := s.pos
	for {
		s.plain()
		switch s.peek() {
		case '"':
			inner = Span{start, s.pos}
			s.pos++
			return inner, escaped, nil
		case '\\':
			escaped = true
			if err := s.escape(); err != nil {
				return Span{}, false, err
			}
		default: // a control character, or the end
			return Span{}, false, errSyntax
		}
	}
}

// escape skips one escape sequence.
func (s *scanner) escape() error {
	s.pos++ // \
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos++
		return nil
	case 'u':
		s.pos++
		for range 4 {
			switch c := s.peek(); {
			case c >= '0' && c <= '9', c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
				s.pos++
			default:
				return errSyntax
			}
		}
		return nil
	default:
		return errSyntax
	}
}

// Bytes of a word, for looking at eight bytes of a string at once.
const (
	ones = 0x0101010101010101
	tops = 0x8080808080808080
)

// ends is a word whose top bits tell the bytes of another that end a run of plain ones: quotes, backslashes and control characters.
// Where the subtractions borrow there may be more of them, but only above the lowest, which is exact.
func ends(word uint64) uint64 {
	low := (word ^ ones*0x02) - ones*0x21 // quotes and blanks change places, so that only control characters and quotes borrow
	backslash := (word ^ ones*'\\') - ones
	return (low | backslash) &^ word & tops
}

// plain skips the bytes of a string up to a quote, a backslash or a control character. Texts of tens of kilobytes are the rule
// for tool results, so what is longer than a word goes by four words at once.
func (s *scanner) plain() {
	for len(s.raw)-s.pos >= 8 {
		if found := ends(binary.LittleEndian.Uint64(s.raw[s.pos:])); found != 0 {
			s.pos += bits.TrailingZeros64(found) / 8
			return
		}
		s.pos += 8
		for len(s.raw)-s.pos >= 32 {
			b := s.raw[s.pos : s.pos+32]
			if ends(binary.LittleEndian.Uint64(b))|ends(binary.LittleEndian.Uint64(b[8:]))|
				ends(binary.LittleEndian.Uint64(b[16:]))|ends(binary.LittleEndian.Uint64(b[24:])) != 0 {
				break
			}
			s.pos += 32
		}
	}
	for s.pos < len(s.raw) {
		if c := s.raw[s.pos]; c == '"' || c == '\\' || c < 0x20 {
			return
		}
		s.pos++
	}
}
