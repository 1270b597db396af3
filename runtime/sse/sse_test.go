// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sse_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vmcp-dev/vmcp-operator/runtime/sse"
)

// events reads a stream to its end: type, data and last id of each event, then the error.
func events(r *sse.Reader) ([]string, error) {
	var all []string
	for {
		e, err := r.Next()
		if err != nil {
			return all, err
		}
		all = append(all, fmt.Sprintf("%s|%s|%s", e.Type, e.Data, r.LastID()))
	}
}

func TestReader(t *testing.T) {
	for name, tc := range map[string]struct {
		stream string
		want   []string
		lastID string
		retry  time.Duration
	}{
		"one":                       {"event: message\ndata: {}\n\n", []string{"message|{}|"}, "", 0},
		"CR LF":                     {"event: message\r\nid: 1\r\ndata: {}\r\n\r\n", []string{"message|{}|1"}, "1", 0},
		"CR":                        {"data: a\r\rdata: b\r\r", []string{"|a|", "|b|"}, "", 0},
		"several lines":             {"data: {\ndata: \"a\": 1\ndata:}\n\n", []string{"|{\n\"a\": 1\n}|"}, "", 0},
		"one blank is taken off":    {"data:  a\n\n", []string{"| a|"}, "", 0},
		"comments, unknown fields":  {": hello\nx: y\ndata: a\n:\n\n", []string{"|a|"}, "", 0},
		"no colon":                  {"data\ndata: a\n\n", []string{"|\na|"}, "", 0},
		"priming event":             {"id: 7\nretry: 250\ndata\n\ndata: a\n\n", []string{"|a|7"}, "7", 250 * time.Millisecond},
		"the id goes on":            {"id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", []string{"|a|1", "|b|1", "|c|"}, "", 0},
		"an id of an unended event": {"id: 1\ndata: a\n\nid: 2\ndata: b\n", []string{"|a|1"}, "1", 0},
		"id with NUL":               {"id: a\x00b\ndata: a\n\n", []string{"|a|"}, "", 0},
		"retry is digits":           {"retry: -1\nretry: 1e3\nretry: 99999999999\ndata: a\n\n", []string{"|a|"}, "", 0},
		"byte order mark":           {"\xef\xbb\xbfdata: a\n\n", []string{"|a|"}, "", 0},
		"the type is the event's":   {"event: x\n\ndata: a\n\n", []string{"|a|"}, "", 0},
		"nothing":                   {"", nil, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			for how, source := range map[string]io.Reader{
				"at once": strings.NewReader(tc.stream), "byte by byte": iotest.OneByteReader(strings.NewReader(tc.stream)),
				"with the error": iotest.DataErrReader(strings.NewReader(tc.stream)),
			} {
				r := sse.NewReader(source, 1<<10)
				got, err := events(r)
				if !errors.Is(err, io.EOF) {
					t.Errorf("%s: %v", how, err)
				}
				if diff := cmp.Diff(tc.want, got); diff != "" || r.LastID() != tc.lastID || r.Retry() != tc.retry {
					t.Errorf("%s: %s id %q retry %v", how, diff, r.LastID(), r.Retry())
				}
			}
		})
	}
}

func TestReaderIsBounded(t *testing.T) {
	for name, stream := range map[string]string{
		"a line":         "data: " + strings.Repeat("x", 2000),
		"a comment":      ":" + strings.Repeat("x", 2000),
		"many lines":     strings.Repeat("data: "+strings.Repeat("x", 100)+"\n", 20) + "\n",
		"many no lines":  strings.Repeat("data\n", 2000) + "\n",
		"a second event": "data: a\n\ndata: " + strings.Repeat("x", 2000) + "\n\n",
	} {
		r := sse.NewReader(iotest.HalfReader(strings.NewReader(stream)), 1000)
		_, err := events(r)
		if _, again := r.Next(); !errors.Is(err, sse.ErrTooLarge) || !errors.Is(again, sse.ErrTooLarge) {
			t.Errorf("%s: %v, then %v", name, err, again)
		}
	}
	if _, err := sse.NewReader(strings.NewReader("data: "+strings.Repeat("x", 900)+"\n\n"), 1000).Next(); err != nil {
		t.Errorf("an event within the bound: %v", err)
	}
}

// A message must not wait for what comes after it.
func TestReaderDoesNotWaitForMore(t *testing.T) {
	read, write := io.Pipe()
	defer read.Close()
	r := sse.NewReader(read, 1000)
	for _, end := range []string{"\n\n", "\r\n\r\n", "\r\r"} {
		go func() { _, _ = io.WriteString(write, "data: a"+end) }()
		if e, err := r.Next(); err != nil || string(e.Data) != "a" {
			t.Fatalf("%q: %v, %v", end, e, err)
		}
	}
}

func TestResetForgets(t *testing.T) {
	r := sse.NewReader(strings.NewReader("id: 1\nretry: 5\nevent: x\ndata: a\n\ndata: rest"), 100)
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	r.Reset(strings.NewReader("data: b\n\n"), 100)
	got, _ := events(r)
	if diff := cmp.Diff([]string{"|b|"}, got); diff != "" || r.Retry() != 0 {
		t.Error(diff, r.Retry())
	}
}

func TestAppend(t *testing.T) {
	for data, want := range map[string]string{
		`{"a":1}`:         "event: message\nid: 7\ndata: {\"a\":1}\n\n",
		"{\r\n\"a\":1\r}": "event: message\nid: 7\ndata: {\ndata: \"a\":1\ndata: }\n\n",
	} {
		if got := string(sse.Append(nil, "7", []byte(data))); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// FuzzReader checks that the way in which the bytes arrive makes no difference, that bounds hold, and that what is read can be
// written and read again.
func FuzzReader(f *testing.F) {
	for _, seed := range []string{
		"event: message\nid: 1\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n", "data: a\r\ndata: b\r\n\r\n: c\n\nretry: 10\nid: x\ndata:\n\n",
		"\xef\xbb\xbfdata: a\r\rdata\r\n\n", "data: " + strings.Repeat("x", 300) + "\n\n", "id: a\x00\n\n\n", "\r\n\r\n\r", "data:\n\ndata:a", ":" + strings.Repeat("x", 300) + "\ndata: a\n\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		const limit = 256
		r := sse.NewReader(strings.NewReader(string(stream)), limit)
		whole, err := events(r)
		slow := sse.NewReader(iotest.OneByteReader(strings.NewReader(string(stream))), limit)
		bytewise, slowErr := events(slow)
		if diff := cmp.Diff(whole, bytewise); diff != "" || !errors.Is(slowErr, err) || r.LastID() != slow.LastID() || r.Retry() != slow.Retry() {
			t.Fatalf("it matters how the bytes arrive: %s (%v, %v)", diff, err, slowErr)
		}
		r.Reset(strings.NewReader(string(stream)), limit)
		for {
			e, err := r.Next()
			if err != nil {
				return
			}
			if len(e.Data) > limit {
				t.Fatalf("%d bytes", len(e.Data))
			}
			again, err := sse.NewReader(strings.NewReader(string(sse.Append(nil, r.LastID(), e.Data))), 4*limit).Next()
			if err != nil || !bytes.Equal(again.Data, e.Data) {
				t.Fatalf("%q became %q: %v", e.Data, again.Data, err)
			}
		}
	})
}
