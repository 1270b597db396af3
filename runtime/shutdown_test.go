// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`

// post sends a request once, and says whether it went over a connection that had been used before.
func post(ctx context.Context, client *http.Client, endpoint string) (reused, closes bool, err error) {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused = c.Reused }})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(initialize))
	if err != nil {
		return reused, false, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	response, err := client.Do(request)
	if err != nil {
		return reused, false, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && (response.StatusCode != http.StatusOK || !strings.Contains(string(body), `"result"`)) {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return reused, response.Close, err
}

func drained(response *http.Response) error {
	defer response.Body.Close()
	_, err := io.Copy(io.Discard, response.Body)
	return err
}

// TestRun_SendsClientsAwayBeforeItCloses: for a while after it was told to end the runtime serves on, and clients leave of their own accord.
func TestRun_SendsClientsAwayBeforeItCloses(t *testing.T) {
	o := standalone(newDiscoverer(), &recorder{})
	o.ShutdownDelay = time.Second
	r := start(t, o)
	expect := func(what string, wantReused, wantCloses bool) {
		t.Helper()
		reused, closes, err := post(t.Context(), r.http, r.endpoint)
		if err != nil || reused != wantReused || closes != wantCloses {
			t.Errorf("%s: reused %t, closes %t, %v", what, reused, closes, err)
		}
	}
	expect("the first request", false, false)
	expect("the second request", true, false)
	idle, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimSuffix(strings.TrimPrefix(r.endpoint, "http://"), "/mcp"))
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	received := bufio.NewReader(idle)
	get := func() (closes bool) {
		t.Helper()
		if _, err := io.WriteString(idle, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(received, nil)
		if err != nil || drained(response) != nil {
			t.Fatalf("a page that there is not: %v", err)
		}
		return response.Close
	}
	get()

	ended := make(chan error, 1)
	go func() { ended <- r.stop() }()
	probe := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	admin := &started{admin: r.admin, http: probe}
	eventually(t, soon, func() string {
		if code, _ := admin.get(t, "/readyz"); code != http.StatusServiceUnavailable {
			return fmt.Sprintf("/readyz is %d", code)
		}
		return ""
	})
	expect("on the connection from before", true, true)
	expect("on a new one", false, true)
	select {
	case err := <-ended:
		t.Fatalf("the runtime has ended, and a client may come back on a connection of its: %v", err)
	case <-time.After(2 * o.ShutdownDelay):
	}
	if err := idle.SetDeadline(time.Now().Add(long)); err != nil {
		t.Fatal(err)
	}
	if !get() {
		t.Error("a client that came late was not sent away")
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestRun_IsNotReadyWhileItEnds, though it follows its backends meanwhile.
func TestRun_IsNotReadyWhileItEnds(t *testing.T) {
	d := newDiscoverer()
	o := standalone(d, &recorder{})
	o.ShutdownDelay = 3 * time.Second
	r := start(t, o)
	probe := &started{admin: r.admin, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	expect := func(want int) {
		t.Helper()
		eventually(t, soon, func() string {
			if code, _ := probe.get(t, "/readyz"); code != want {
				return fmt.Sprintf("/readyz is %d, want %d", code, want)
			}
			return ""
		})
	}
	expect(http.StatusOK)
	ended := make(chan error, 1)
	go func() { ended <- r.stop() }()
	expect(http.StatusServiceUnavailable)
	for range 4 { // one waits, one is handed on, one is at work: the first is done
		d.set()
	}
	if code, _ := probe.get(t, "/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("/readyz is %d when a list of backends came", code)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestRun_LosesNoRequestWhenItEnds has clients that send each request once call a runtime without a pause, while it ends and another takes
// over, as pods behind a Service do.
func TestRun_LosesNoRequestWhenItEnds(t *testing.T) {
	o := standalone(newDiscoverer(), &recorder{})
	o.ShutdownDelay = time.Second
	leaving := start(t, o)
	staying := start(t, standalone(newDiscoverer(), &recorder{}))
	var (
		changed atomic.Bool // the Service leads to the other
		calls   atomic.Int64
		lost    sync.Map
		clients sync.WaitGroup
	)
	address := func() string {
		endpoint := leaving.endpoint
		if changed.Load() {
			endpoint = staying.endpoint
		}
		return strings.TrimSuffix(strings.TrimPrefix(endpoint, "http://"), "/mcp")
	}
	service := &http.Transport{
		MaxIdleConnsPerHost: 16,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address())
		},
	}
	defer service.CloseIdleConnections()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	for range 16 {
		clients.Go(func() {
			client := &http.Client{Transport: service}
			for ctx.Err() == nil {
				if _, _, err := post(context.WithoutCancel(ctx), client, "http://localhost/mcp"); err != nil {
					lost.Store(calls.Load(), err)
				}
				calls.Add(1)
			}
		})
	}
	more := func(n int64) {
		t.Helper()
		from := calls.Load()
		eventually(t, long, func() string {
			if got := calls.Load() - from; got < n {
				return fmt.Sprintf("%d calls, want %d", got, n)
			}
			return ""
		})
	}
	more(200)
	ended := make(chan error, 1)
	go func() { ended <- leaving.stop() }()
	more(200) // new connections still come
	changed.Store(true)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	more(200)
	stop()
	clients.Wait()
	lost.Range(func(n, err any) bool {
		t.Errorf("call %d: %v", n, err)
		return true
	})
	t.Logf("%d calls", calls.Load())
}
