// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

// TestLegacy_TellsALostSessionFromAnError has a server refuse a call with a status that may mean that it does not know the session. If that
// is what it says, the call is sent again in another session; if the error is the answer to the call, the call has been made.
func TestLegacy_TellsALostSessionFromAnError(t *testing.T) {
	mine := func(code int, message string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":ID,"error":{"code":%d,"message":%q}}`, code, message)
	}
	for name, tc := range map[string]struct {
		status int
		body   string
		code   int // of the answer; 0: the session is lost
	}{
		"plain text":                          {404, "session not found", 0},
		"nothing":                             {404, "", 0},
		"the TypeScript SDK":                  {404, `{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"},"id":null}`, 0},
		"the TypeScript SDK after a restart":  {400, `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: Server not initialized"},"id":null}`, 0},
		"its examples":                        {400, `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"},"id":null}`, 0},
		"the Python SDK":                      {404, `{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Session not found"}}`, 0},
		"with the id":                         {404, mine(-32001, "Session not found"), 0},
		"with the id, another code":           {404, mine(-32600, "Unknown session id 'a1' for 'tools/call'; client should reinitialize"), 0},
		"with the id, its name":               {404, mine(-32000, "Session a1 has been terminated"), 0},
		"this gateway":                        {404, mine(-32600, "the session is unknown or has ended"), 0},
		"with the id, 400":                    {400, mine(-32000, "Bad Request: No valid session ID provided"), 0},
		"with the id, 400, the header":        {400, mine(-32600, "Invalid Mcp-Session-Id header"), 0},
		"with the id, 400, before initialize": {400, mine(-32000, "Bad Request: Server not initialized"), 0},

		"a session of the tool":                 {400, mine(-32602, "browser session closed"), -32602},
		"a session that is an argument":         {404, mine(-32602, "Session not found"), -32602},
		"a session of the tool, a code":         {404, mine(-32000, "browser session closed"), -32000},
		"a session of the tool, 400":            {400, mine(-32000, "Session expired, log in again"), -32000},
		"a session of the tool, its name":       {400, mine(-32000, "terminal session id 7 is unknown"), -32000},
		"a resource":                            {404, mine(-32002, "Resource not found: session://1"), -32002},
		"something else that is not there":      {404, mine(-32000, "no such file"), -32000},
		"a method":                              {404, mine(-32601, "unknown method"), -32601},
		"something that was not initialized":    {400, mine(-32603, "the database is not initialized"), -32603},
		"something of the tool, not begun, 400": {400, mine(-32000, "the index is not initialized"), -32000},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t)
			s.answers["tools/call"] = func(request) string { return `{}` }
			s.before = func(w http.ResponseWriter, r *http.Request, m request) bool {
				if m.Method != "tools/call" || r.Header.Get("Mcp-Session-Id") != "session-1" {
					return false
				}
				if strings.HasPrefix(tc.body, "{") {
					w.Header().Set("Content-Type", "application/json")
				}
				w.WriteHeader(tc.status)
				fmt.Fprint(w, strings.Replace(tc.body, `:ID,`, ":"+string(m.ID)+",", 1))
				return true
			}
			c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
			_, err := c.Call(deadline(t, 10*time.Second), "tools/call", []byte(`{"name":"a"}`))
			calls, sessions := s.count("tools/call"), s.count("initialize")
			if tc.code == 0 {
				if err != nil || calls != 2 || sessions != 2 {
					t.Errorf("%v after %d calls in %d sessions", err, calls, sessions)
				}
				return
			}
			var e *backend.RPCError
			if !errors.As(err, &e) || e.Code != tc.code || calls != 1 || sessions != 1 {
				t.Errorf("%v after %d calls in %d sessions", err, calls, sessions)
			}
		})
	}
}
