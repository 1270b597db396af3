// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

// nobody is no backend at all.
type nobody struct{}

func (nobody) Upstream(backend.Key) (relay.Upstream, bool) { return nil, false }
func (nobody) Missed(backend.Key)                          {}

// keyedReplica is a gateway with the keys of a folder, as a pod has them.
type keyedReplica struct {
	t       *testing.T
	dir     string
	gateway *gateway.Gateway
}

// newKeyedReplica makes one that ends with ctx.
func newKeyedReplica(ctx context.Context, t *testing.T, k session.Keys) *keyedReplica {
	t.Helper()
	r := &keyedReplica{t: t, dir: filepath.Join(t.TempDir(), "keys"), gateway: gateway.New(gateway.Options{
		Upstreams: nobody{}, UID: "uid", Name: "team", Version: "v1",
	})}
	r.mount(k)
	begun := make(chan struct{})
	go (&keyring{dir: r.dir, use: r.gateway.SetKeys, logger: slog.New(slog.DiscardHandler)}).run(ctx, func() { close(begun) })
	<-begun
	return r
}

// mount gives it other files, all at once.
func (r *keyedReplica) mount(k session.Keys) {
	r.t.Helper()
	fresh := r.t.TempDir()
	for name, content := range map[string][]byte{"previous": k.Previous, "current": k.Current, "next": k.Next} {
		if content == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(fresh, name), content, 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := os.Symlink(fresh, r.dir+"_tmp"); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(r.dir+"_tmp", r.dir); err != nil {
		r.t.Fatal(err)
	}
}

func (r *keyedReplica) post(body, session string) *httptest.ResponseRecorder {
	r.t.Helper()
	request := httptest.NewRequestWithContext(r.t.Context(), http.MethodPost, "http://localhost"+gateway.Path, strings.NewReader(body))
	request.Header.Set("Accept", "application/json, text/event-stream")
	request.Header.Set("Content-Type", "application/json")
	if session != "" {
		request.Header.Set("Mcp-Session-Id", session)
	}
	w := httptest.NewRecorder()
	r.gateway.Handler().ServeHTTP(w, request)
	return w
}

// begin opens a session and returns its id.
func (r *keyedReplica) begin() string {
	r.t.Helper()
	w := r.post(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`, "")
	id := w.Header().Get("Mcp-Session-Id")
	if w.Code != http.StatusOK || id == "" {
		r.t.Fatalf("initialize: %d %s", w.Code, w.Body)
	}
	return id
}

// ping uses a session, and returns the status.
func (r *keyedReplica) ping(session string) int {
	r.t.Helper()
	return r.post(`{"jsonrpc":"2.0","id":1,"method":"ping"}`, session).Code
}

// TestReplicasKnowEachOthersSessions all through a rotation, while one has the new keys and the other does not yet; one with other keys
// knows none of them.
func TestReplicasKnowEachOthersSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		first := session.Keys{Current: sessionKey(1), Next: sessionKey(2)}
		a, b := newKeyedReplica(ctx, t, first), newKeyedReplica(ctx, t, first)
		stranger := newKeyedReplica(ctx, t, session.Keys{Previous: sessionKey(7), Current: sessionKey(8), Next: sessionKey(9)})
		var sessions []string
		expect := func(when string) {
			t.Helper()
			time.Sleep(2 * keysInterval) // of the bubble's clock
			synctest.Wait()
			sessions = append(sessions, a.begin(), b.begin())
			for n, id := range sessions {
				if a.ping(id) != http.StatusOK || b.ping(id) != http.StatusOK {
					t.Errorf("%s: session %d gets %d and %d", when, n, a.ping(id), b.ping(id))
				}
				if code := stranger.ping(id); code != http.StatusNotFound {
					t.Errorf("%s: a gateway with other keys answers session %d with %d", when, n, code)
				}
			}
		}
		expect("at first")
		rotated := session.Keys{Previous: sessionKey(1), Current: sessionKey(2), Next: sessionKey(3)}
		a.mount(rotated)
		expect("one has rotated")
		b.mount(rotated)
		expect("both have rotated")
		// Eight hours and some later the sessions from before the rotation have ended by themselves.
		time.Sleep(session.Life + time.Hour)
		sessions = nil
		dropped := session.Keys{Current: sessionKey(2), Next: sessionKey(3)}
		b.mount(dropped)
		expect("the other has dropped the old key")
		a.mount(dropped)
		expect("both have dropped the old key")
		again := session.Keys{Previous: sessionKey(2), Current: sessionKey(3), Next: sessionKey(4)}
		b.mount(again)
		expect("the other has rotated again")
		a.mount(again)
		expect("both have rotated again")
		cancel()
		synctest.Wait()
	})
}
