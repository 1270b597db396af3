// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/runtime/peer"
)

// TestForwardEndsBeforeTheAnswer: that says nothing against the replica that was asked.
func TestForwardEndsBeforeTheAnswer(t *testing.T) {
	release, ended := make(chan struct{}), make(chan struct{})
	defer close(release)
	owner := serve(t, "u", keys(1), func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			close(ended)
			<-release
		}
		ok(w, r)
	})
	us := serve(t, "u", keys(1), ok)
	w := httptest.NewRecorder()
	err := us.Forward(w, httptest.NewRequest(http.MethodGet, "/mcp", nil), owner.Self(), nil, ended)
	if !errors.Is(err, peer.ErrEnded) || errors.Is(err, peer.ErrGone) || w.Body.Len() > 0 {
		t.Errorf("%v, answered with %q", err, w.Body)
	}
	if status, err := us.Send(t.Context(), owner.Self(), message); err != nil || status != http.StatusAccepted {
		t.Errorf("the next message: %d, %v", status, err)
	}
}
