// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	neturl "net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// echo answers tools/call as fast as net/http can, in the era that it is made for.
func echo(era relay.Era, size int) http.Handler {
	content := fmt.Sprintf(`{"content":[{"type":"text","text":%q}]}`, strings.Repeat("x", size))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		raw, err := io.ReadAll(r.Body)
		m, parseErr := rpc.Parse(raw)
		if err != nil || parseErr != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		result := content
		switch m.Method {
		case "server/discover":
			if era == relay.Legacy {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			result = `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{}}`
		case "initialize":
			w.Header().Set("Mcp-Session-Id", "one")
			result = `{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"echo","version":"1"}}`
		}
		if m.Kind != rpc.Request {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID.Of(raw), result)
	})
}

// BenchmarkExchange is a call through the edge.
func BenchmarkExchange(b *testing.B) {
	each(b, func(b *testing.B, url string, r *relay.Request) {
		c := benchClient(b, url)
		b.ReportAllocs()
		for b.Loop() {
			answer, err := c.Exchange(b.Context(), r, nil)
			if err != nil {
				b.Fatal(err)
			}
			answer.Done()
		}
	})
}

// BenchmarkAgainstReverseProxy has 16 clients call through the least server that can stand before the edge, and through
// httputil.ReverseProxy, in turns. One iteration is a slice of each; the metric is the median of the rates' ratio, above 1 if the edge is
// the faster one. Run it with -benchtime=15x or more.
func BenchmarkAgainstReverseProxy(b *testing.B) {
	each(b, func(b *testing.B, url string, r *relay.Request) {
		target, err := neturl.Parse(url)
		if err != nil {
			b.Fatal(err)
		}
		proxy := &httputil.ReverseProxy{
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
			Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
		}
		bare := httptest.NewServer(proxy)
		b.Cleanup(bare.Close)
		edge := httptest.NewServer(overEdge(benchClient(b, url), r))
		b.Cleanup(edge.Close)
		body := r.Message.Raw
		var ratios []float64
		slice(b, bare.URL, body, 100*time.Millisecond)
		slice(b, edge.URL, body, 100*time.Millisecond)
		for b.Loop() {
			without := slice(b, bare.URL, body, 100*time.Millisecond)
			with := slice(b, edge.URL, body, 100*time.Millisecond)
			ratios = append(ratios, float64(with)/float64(without))
		}
		slices.Sort(ratios)
		b.ReportMetric(ratios[len(ratios)/2], "x-proxy")
		b.ReportMetric(0, "ns/op")
	})
}

// each runs a benchmark for the eras and sizes.
func each(b *testing.B, run func(b *testing.B, url string, r *relay.Request)) {
	for _, size := range []int{32, 64 << 10} {
		params := fmt.Sprintf(`{"name":"echo","arguments":{"text":%q}}`, strings.Repeat("y", size))
		for _, era := range []relay.Era{relay.Legacy, relay.Modern} {
			b.Run(fmt.Sprintf("%s/%d", era, size), func(b *testing.B) {
				s := httptest.NewServer(echo(era, size))
				b.Cleanup(s.Close)
				run(b, s.URL, message(b, era, "tools/call", params))
			})
		}
	}
}

func benchClient(b *testing.B, url string) *backend.Client {
	c := backend.NewClient(backend.Target{Key: docs, URL: url, Transport: v1alpha1.TransportStreamableHTTP}, backend.Options{})
	b.Cleanup(c.Close)
	return c
}

// overEdge serves calls like r in the way of the front: it reads, parses, asks the edge and puts the client's id back.
func overEdge(c *backend.Client, like *relay.Request) http.Handler {
	var bodies sync.Pool
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := bodies.Get().(*bytes.Buffer)
		if !ok {
			body = &bytes.Buffer{}
		}
		defer bodies.Put(body)
		body.Reset()
		body.Grow(int(max(r.ContentLength, 0)) + bytes.MinRead)
		_, err := body.ReadFrom(r.Body)
		m, parseErr := rpc.Parse(body.Bytes())
		if err != nil || parseErr != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		answer, err := c.Exchange(r.Context(), &relay.Request{Message: m, Era: like.Era, Name: like.Name}, nil)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer answer.Done()
		raw, at, id := answer.Message.Raw, answer.Message.ID, m.ID.Of(m.Raw)
		h := w.Header()
		h["Content-Type"] = []string{"application/json"}
		h["Content-Length"] = []string{strconv.Itoa(len(raw) - (at.End - at.Start) + len(id))}
		for _, part := range [][]byte{raw[:at.Start], id, raw[at.End:]} {
			_, _ = w.Write(part)
		}
	})
}

// slice has 16 clients call for a while, and counts the calls.
func slice(b *testing.B, url string, body []byte, d time.Duration) int64 {
	transport := &http.Transport{MaxIdleConnsPerHost: 16, DisableCompression: true}
	defer transport.CloseIdleConnections()
	var calls atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(d)
	for range 16 {
		wg.Go(func() {
			for time.Now().Before(end) {
				post(b, transport, url, body)
				calls.Add(1)
			}
		})
	}
	wg.Wait()
	return calls.Load()
}

func post(b *testing.B, transport *http.Transport, url string, body []byte) {
	r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		b.Error(err)
		return
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	response, err := transport.RoundTrip(r)
	if err != nil {
		b.Error(err)
		return
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
		b.Errorf("%s, %v", response.Status, err)
	}
}
