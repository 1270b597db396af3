// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// message is a request of a client.
func message(t testing.TB, era relay.Era, method, params string) *relay.Request {
	t.Helper()
	m, err := rpc.Parse(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":"client's","method":%q,"params":%s}`, method, params))
	if err != nil {
		t.Fatal(err)
	}
	found := rpc.Find(m.Raw, m.Params, "_meta", "name", "uri")
	r := &relay.Request{Message: m, Era: era, Meta: found[0]}
	for _, at := range found[1:3] {
		if name, ok := rpc.Text(at.Of(m.Raw)); ok {
			r.Name = name
		}
	}
	r.Progress = rpc.Find(m.Raw, r.Meta, "progressToken")[0].Exists()
	return r
}

// recorder is a Sink that keeps what it gets.
type recorder struct {
	// answer is the reply to every request of the backend, without an id; empty means none.
	answer string

	mu    sync.Mutex
	notes []string
	asked []string
}

func (s *recorder) Notify(m rpc.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, string(m.Raw))
	return nil
}

func (s *recorder) Ask(m rpc.Message, reply func(rpc.Message)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, m.Method)
	if s.answer != "" {
		response, err := rpc.Parse([]byte(s.answer))
		if err != nil {
			return err
		}
		go reply(response)
	}
	return nil
}

// result is the result of an answer, as text.
func result(t testing.TB, answer *relay.Answer, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Done()
	if answer.Message.Kind != rpc.Result {
		t.Fatalf("an error: %s", answer.Message.Raw)
	}
	return string(answer.Message.Body.Of(answer.Message.Raw))
}

// modern is a server of the modern era that does as a test says.
type modern struct {
	// answer writes the answer to a request; what it leaves alone gets -32601.
	answer func(w http.ResponseWriter, r *http.Request, m request) bool
	// capabilities are those of the discover result.
	capabilities string

	mu  sync.Mutex
	got []request
}

func newModern(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, m request) bool) (*modern, string) {
	t.Helper()
	s := &modern{answer: answer, capabilities: `{"tools":{}}`}
	return s, serve(t, s)
}

func (s *modern) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m request
	body, err := io.ReadAll(r.Body)
	if r.Method != http.MethodPost || err != nil || json.Unmarshal(body, &m) != nil {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	m.Header = r.Header.Clone()
	s.mu.Lock()
	s.got = append(s.got, m)
	answer := s.answer
	s.mu.Unlock()
	switch {
	case answer != nil && answer(w, r, m):
	case m.Method == "server/discover":
		whole(w, m, fmt.Sprintf(`{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":%s}`, s.capabilities))
	default:
		failure(w, m, http.StatusNotFound, -32601, "null")
	}
}

func (s *modern) set(answer func(w http.ResponseWriter, r *http.Request, m request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// all are the requests of a method.
func (s *modern) all(method string) []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.got), func(r request) bool { return r.Method != method })
}

// whole answers with a result.
func whole(w http.ResponseWriter, m request, result string) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
}

// failure answers with a JSON-RPC error.
func failure(w http.ResponseWriter, m request, status, code int, data string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":"m","data":%s}}`, m.ID, code, data)
}

// event sends one event of a stream.
func event(w http.ResponseWriter, lines ...string) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "text/event-stream")
	}
	fmt.Fprint(w, strings.Join(lines, "\n")+"\n\n")
	_ = http.NewResponseController(w).Flush()
}

func data(format string, args ...any) string { return "data: " + fmt.Sprintf(format, args...) }

// meta is params._meta of a request that a server got.
func meta(t testing.TB, r request) map[string]json.RawMessage {
	t.Helper()
	var params struct {
		Meta map[string]json.RawMessage `json:"_meta"`
	}
	if err := json.Unmarshal(r.Params, &params); err != nil {
		t.Fatalf("%s: %v", r.Params, err)
	}
	return params.Meta
}
