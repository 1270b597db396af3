// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Send sends a message to one replica, and returns the status that it answers with. It is ErrGone if that process does not answer in
// time.
func (g *Group) Send(ctx context.Context, to Replica, m *Message) (status int, err error) {
	if g.isSuspect(to.Address) {
		g.observe(OperationSend, OutcomeGone)
		return 0, ErrGone
	}
	status, _, err = g.request(ctx, OperationSend, to, m)
	return status, err
}

// Tell sends a message to all other replicas, side by side, and waits for their answers; nobody waits for one that did not answer in time
// shortly before. What went wrong is logged and counted.
func (g *Group) Tell(ctx context.Context, m *Message) {
	g.each(func(at netip.AddrPort) { _, _, _ = g.request(ctx, OperationTell, Replica{Address: at}, m) }, func(at netip.AddrPort) {
		select {
		case g.late <- struct{}{}:
		default:
			g.observe(OperationTell, OutcomeGone)
			return
		}
		late := *m
		late.Body = bytes.Clone(m.Body) // the caller's only until Tell returns
		g.busy.Go(func() {
			defer func() { <-g.late }()
			_, _, _ = g.request(context.WithoutCancel(ctx), OperationTell, Replica{Address: at}, &late) // it is logged
		})
	})
}

// Ask sends a message to all other replicas, side by side, and returns what those answered in time that have the status 200. One
// that did not answer in time shortly before is not asked.
func (g *Group) Ask(ctx context.Context, m *Message) [][]byte {
	var mu sync.Mutex
	var all [][]byte
	g.each(func(at netip.AddrPort) {
		status, body, err := g.request(ctx, OperationAsk, Replica{Address: at}, m)
		if err != nil || status != http.StatusOK {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, body)
	}, func(netip.AddrPort) {})
	return all
}

// each runs do for the other replicas, and suspected for those for which nobody shall wait.
func (g *Group) each(do, suspected func(netip.AddrPort)) {
	room := make(chan struct{}, fanOut)
	var doing sync.WaitGroup
	for _, at := range g.directory.others() {
		if g.isSuspect(at) {
			suspected(at)
			continue
		}
		room <- struct{}{}
		doing.Go(func() {
			defer func() { <-room }()
			do(at)
		})
	}
	doing.Wait()
}

// request sends a message to one replica. Without an instance it is to whichever process is there.
func (g *Group) request(ctx context.Context, operation string, to Replica, m *Message) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, g.patience)
	defer cancel()
	defer func() { g.note(ctx, operation, to, status, err) }()
	target := endpoint(to.Address, m.Path)
	r, err := http.NewRequestWithContext(ctx, m.Method, target.String(), bytes.NewReader(m.Body))
	if err != nil {
		return 0, nil, fmt.Errorf("asking a replica: %w", err)
	}
	r.Header = header(m.Header, to)
	response, err := g.transport.RoundTrip(r)
	if err != nil {
		return 0, nil, errors.Join(ErrGone, err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusMisdirectedRequest {
		return 0, nil, ErrGone
	}
	body, err = io.ReadAll(io.LimitReader(response.Body, maxReply+1))
	if err == nil && len(body) > maxReply {
		err = errors.New("the answer is too large")
	}
	if err != nil {
		return 0, nil, errors.Join(ErrGone, err)
	}
	return response.StatusCode, body, nil
}

func endpoint(at netip.AddrPort, path string) *url.URL {
	return &url.URL{Scheme: "https", Host: at.String(), Path: path}
}

// header is that of a request.
func header(more http.Header, to Replica) http.Header {
	h := more.Clone()
	if h == nil {
		h = http.Header{}
	}
	if to.Instance != [8]byte{} {
		h.Set(headerInstance, hex.EncodeToString(to.Instance[:]))
	}
	return h
}

// note counts and logs how a request ended, and whether it is worth while to wait for that replica again.
func (g *Group) note(ctx context.Context, operation string, to Replica, status int, err error) {
	outcome := OutcomeSuccess
	switch {
	case err != nil:
		outcome = OutcomeGone
	case status >= http.StatusBadRequest:
		outcome = OutcomeRefused
	}
	g.observe(operation, outcome)
	if outcome == OutcomeSuccess {
		return
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		g.suspect(to.Address)
	}
	g.log.Debug("Another replica did not do what it was asked", "replica", to.Address, "operation", operation, "status", status, "error", err)
}

func (g *Group) suspect(at netip.AddrPort) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	for other, until := range g.suspects {
		if now.After(until) {
			delete(g.suspects, other)
		}
	}
	g.suspects[at] = now.Add(suspicion)
}

func (g *Group) isSuspect(at netip.AddrPort) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	until, ok := g.suspects[at]
	return ok && time.Now().Before(until)
}

// Forward has one replica answer a request, with the header and nothing else of it, and hands on its answer as it comes, until the request or
// the answer ends, or ended is closed. A stream that is cut ends as others do. It is ErrGone, and nothing is answered, if that process does
// not begin to answer in time, or answers 410. It is ErrEnded, and nothing is answered, if ended is closed before that process begins.
func (g *Group) Forward(w http.ResponseWriter, r *http.Request, to Replica, h http.Header, ended <-chan struct{}) error {
	if g.isSuspect(to.Address) {
		g.observe(OperationForward, OutcomeGone)
		return ErrGone
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var cut atomic.Bool
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel() // before Wait
	watching.Go(func() {
		select {
		case <-ended:
			cut.Store(true)
			cancel()
		case <-ctx.Done():
		}
	})
	late := time.AfterFunc(g.patience, func() {
		g.suspect(to.Address)
		cancel()
	})
	defer late.Stop()
	var failed error
	proxy := &httputil.ReverseProxy{
		Transport:     g.transport,
		FlushInterval: -1, // at once
		ErrorLog:      log.New(io.Discard, "", 0),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL, p.Out.Host, p.Out.Header = endpoint(to.Address, p.In.URL.Path), "", header(h, to)
		},
		ModifyResponse: func(response *http.Response) error {
			if !late.Stop() || response.StatusCode == http.StatusMisdirectedRequest || response.StatusCode == http.StatusGone {
				return ErrGone
			}
			response.Body = cutShort{response.Body}
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { failed = errors.Join(ErrGone, err) },
	}
	proxy.ServeHTTP(w, r.WithContext(ctx))
	outcome := OutcomeSuccess
	if failed != nil {
		outcome = OutcomeGone
		g.log.LogAttrs(ctx, slog.LevelDebug, "Another replica did not answer a request", slog.Any("replica", to.Address), slog.Any("error", failed))
	}
	g.observe(OperationForward, outcome)
	if failed != nil && cut.Load() {
		return ErrEnded
	}
	return failed
}

// cutShort is a body that ends where it is cut.
type cutShort struct{ io.ReadCloser }

func (c cutShort) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if err != nil {
		err = io.EOF
	}
	return n, err
}
