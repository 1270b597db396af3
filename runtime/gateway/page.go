// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

// cursorLayout is the first byte of the content of a cursor.
const cursorLayout = 1

// cursor stands for the place after an entry of a list. It holds the entry's name, so that it survives a change of the catalog that
// leaves the entry; and no principal, since a list is the same for all.
func (g *Gateway) cursor(kind int, after string) string {
	return g.sealer.Seal(session.PurposeCursor, "", append([]byte{cursorLayout, byte(kind)}, after...)) //nolint:gosec // G115: one of four
}

// openCursor returns the name of the entry after which the page begins.
func (g *Gateway) openCursor(kind int, cursor string) (after string, ok bool) {
	content, err := g.sealer.Open(session.PurposeCursor, "", cursor)
	if err != nil || len(content) < 2 || content[0] != cursorLayout || int(content[1]) != kind {
		return "", false
	}
	return string(content[2:]), true
}

// page is one page of a list, from behind the id of the answer on.
type page struct {
	head, entries, tail []byte

	once   sync.Once
	packed *packed
}

// serveList answers a request for a list.
func (c *call) serveList(kind int) {
	l := c.edition.lists[c.v.Era][kind]
	p := l.pages[0]
	at := rpc.Find(c.m.Raw, c.m.Params, "cursor")[0]
	switch text, isText := rpc.Text(at.Of(c.m.Raw)); {
	case !at.Exists(), string(at.Of(c.m.Raw)) == "null", isText && text == "":
	default:
		p = nil
		if after, ok := c.g.openCursor(kind, text); ok {
			p = l.after(c.g, after)
		}
		if p == nil {
			c.fail(invalidParams("unknown cursor"))
			return
		}
	}
	id := c.id()
	if c.out.batch {
		c.out.respond(http.StatusOK, answerHead, id, p.head, p.entries, p.tail)
		return
	}
	h := c.out.w.Header()
	h["Vary"] = varyEncoding
	if len(p.entries) < minPacked || len(id) > maxStored-len(answerHead) || !acceptsGzip(c.out.r.Header) {
		c.out.respond(http.StatusOK, answerHead, id, p.head, p.entries, p.tail)
		return
	}
	p.once.Do(func() { p.packed = pack(p.head, p.entries, p.tail) })
	h["Content-Encoding"] = gzipEncoding
	own := append(append([]byte(nil), answerHead...), id...)
	c.out.respond(http.StatusOK, p.packed.begin(own), p.packed.body, p.packed.end(own))
}

const (
	// minPacked is from how many bytes on it is worth to compress.
	minPacked = 1 << 10
	// maxStored is the most that a stored block holds (RFC 1951, section 3.2.4).
	maxStored = 1<<16 - 1
)

var (
	varyEncoding = []string{"Accept-Encoding"}
	gzipEncoding = []string{"gzip"}
)

// acceptsGzip reads Accept-Encoding (RFC 9110, section 12.5.3).
func acceptsGzip(h http.Header) bool {
	for _, value := range h["Accept-Encoding"] {
		for coding := range strings.SplitSeq(value, ",") {
			name, weight, _ := strings.Cut(coding, ";")
			if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
				continue
			}
			_, q, _ := strings.Cut(weight, "=")
			v, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
			return err != nil || v > 0
		}
	}
	return false
}

// packed is text that was compressed once, to be sent behind a short text that differs from answer to answer. The two make one gzip
// member (RFC 1952), since not every client reads several: the short text is a stored block, and the check value of the whole comes out
// of those of the parts.
type packed struct {
	body   []byte // of deflate
	crc    uint32 // of the text
	length int
	shift  crcShift
}

func pack(parts ...[]byte) *packed {
	p := &packed{}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		panic(err) // the level is known
	}
	for _, part := range parts {
		_, _ = w.Write(part) // into memory
		p.crc = crc32.Update(p.crc, crc32.IEEETable, part)
		p.length += len(part)
	}
	_ = w.Close()
	p.body = b.Bytes()
	p.shift = shiftBy(p.length)
	return p
}

// begin is what comes before the body: a header and the stored block.
func (p *packed) begin(text []byte) []byte {
	b := make([]byte, 0, 15+len(text))
	b = append(b, 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, // the header
		0) // a stored block that is not the last
	b = binary.LittleEndian.AppendUint16(b, uint16(len(text)))  //nolint:gosec // G115: at most maxStored
	b = binary.LittleEndian.AppendUint16(b, ^uint16(len(text))) //nolint:gosec // G115: the same
	return append(b, text...)
}

// end is what comes after it.
func (p *packed) end(text []byte) []byte {
	crc := p.shift.times(crc32.ChecksumIEEE(text)) ^ p.crc
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, 8), crc)
	return binary.LittleEndian.AppendUint32(b, uint32(len(text)+p.length)) //nolint:gosec // G115: modulo 2^32 (RFC 1952, section 2.3.1)
}

// crcShift is the linear map that takes the CRC-32 of a text to what it adds to the CRC-32 of the text with so many bytes behind it: a
// matrix over the field of two elements, one column a bit.
type crcShift [32]uint32

func (m *crcShift) times(v uint32) (sum uint32) {
	for i := 0; v != 0; i, v = i+1, v>>1 {
		if v&1 != 0 {
			sum ^= m[i]
		}
	}
	return sum
}

// then is the map that comes first, followed by m.
func (m *crcShift) then(first *crcShift) (product crcShift) {
	for i, column := range first {
		product[i] = m.times(column)
	}
	return product
}

// shiftBy is the map for n bytes, by squaring.
func shiftBy(n int) crcShift {
	var all, step crcShift
	for i := range all {
		all[i] = 1 << i
		step[i] = 1 << i >> 1 // one bit: a step of the shift register
	}
	step[0] = crc32.IEEE
	for range 3 { // eight bits
		step = step.then(&step)
	}
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			all = step.then(&all)
		}
		step = step.then(&step)
	}
	return all
}
