//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

// keysLimit is how long a pod may take to have what a Secret holds: the kubelet looks every minute or so.
const keysLimit = 3 * time.Minute

// TestSessionKeys uses sessions at another pod than the one where they began: while both pods have the same keys, all through a rotation,
// and at a pod that came in the place of one that was deleted.
func TestSessionKeys(t *testing.T) {
	t.Parallel()
	x := newSubject(t, "keyed", replicas(2))
	first := x.sessionKeys(t)
	for _, key := range []string{"current", "next"} {
		if len(first.Data[key]) != 32 {
			t.Errorf("the %s key has %d bytes", key, len(first.Data[key]))
		}
	}
	pods := x.podsInService(t, 2)
	a, b := forwardPod(t, pods[0]), forwardPod(t, pods[1])
	// A pod that started before its Secret has the keys a little later.
	eventually(t, keysLimit, "waiting for both pods to have the keys", func(ctx context.Context) error { return knowEachOther(ctx, a, b) })

	session, err := a.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if text, err := b.post(t.Context(), session, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"keyed-dies_test_simple_text","arguments":{}}}`); err != nil {
		t.Error(err)
	} else if !strings.Contains(text, "simple text") {
		t.Errorf("the call at the other pod is answered with %s", text)
	}
	if err := b.use(t.Context(), session[:len(session)-4]+"AAAA"); !errors.Is(err, errUnknownSession) {
		t.Errorf("a session that no pod began: %v", err)
	}

	// The next key has to be an hour old before it seals. This one is said to be.
	must(t, "annotate", "--overwrite", "secret/"+v1alpha1.OperandName(x.name), v1alpha1.SessionKeysNextSinceAnnotation+"="+
		time.Now().Add(-2*time.Hour).UTC().Format(time.RFC3339))
	must(t, "annotate", "--overwrite", "virtualmcpserver/"+x.name, v1alpha1.RotateSessionKeysAnnotation+"="+time.Now().UTC().Format(time.RFC3339))
	eventually(t, changeLimit, "waiting for the rotation", func(context.Context) error {
		s := x.sessionKeys(t)
		if !bytes.Equal(s.Data["current"], first.Data["next"]) || !bytes.Equal(s.Data["previous"], first.Data["current"]) {
			return errors.New("the keys are the same")
		}
		return nil
	})
	eventually(t, keysLimit, "waiting for both pods to have the rotated keys", func(ctx context.Context) error {
		for _, r := range []*keyedPod{a, b} {
			if err := r.use(ctx, session); err != nil {
				t.Errorf("the session from before, at pod %s: %v", r.name, err)
			}
		}
		if err := knowEachOther(ctx, a, b); err != nil {
			t.Error(err)
		}
		return errors.Join(a.hasPrevious(ctx), b.hasPrevious(ctx))
	})

	must(t, "delete", "pod", b.name, "--timeout=1m")
	for _, name := range x.podsInService(t, 2) {
		if name != a.name {
			b = forwardPod(t, name)
		}
	}
	if err := b.use(t.Context(), session); err != nil {
		t.Errorf("the session from before, at the new pod: %v", err)
	}
	if err := knowEachOther(t.Context(), a, b); err != nil {
		t.Error(err)
	}
}

// sessionKeys is the Secret that the operator keeps for the gateway.
func (x *subject) sessionKeys(t *testing.T) *corev1.Secret {
	t.Helper()
	s := &corev1.Secret{}
	if err := kubectl.GetJSON(t.Context(), s, "--namespace", namespace, "secret", v1alpha1.OperandName(x.name)); err != nil {
		t.Fatal(err)
	}
	return s
}

// podsInService waits until the gateway has so many pods that are ready and not about to end, and no other, and returns their names.
func (x *subject) podsInService(t *testing.T, n int) []string {
	t.Helper()
	var names []string
	eventually(t, startLimit, fmt.Sprintf("waiting for %d ready pods of %s", n, x.name), func(ctx context.Context) error {
		list := &corev1.PodList{}
		if err := kubectl.GetJSON(ctx, list, "--namespace", namespace, "pods", "--selector="+v1alpha1.VirtualMCPServerLabel+"="+x.name); err != nil {
			return err
		}
		names = nil
		for i := range list.Items {
			for _, c := range list.Items[i].Status.Conditions {
				if list.Items[i].DeletionTimestamp == nil && c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
					names = append(names, list.Items[i].Name)
				}
			}
		}
		if len(names) != n || len(list.Items) != n {
			return fmt.Errorf("%d of %d pods are ready", len(names), len(list.Items))
		}
		return nil
	})
	return names
}

// keyedPod is one pod of a gateway, past its Service.
type keyedPod struct {
	name, endpoint string
}

func forwardPod(t *testing.T, name string) *keyedPod {
	t.Helper()
	forward, err := harness.ForwardPod(t.Context(), kubectl, namespace, name, int(v1alpha1.GatewayPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(forward.Close)
	return &keyedPod{name: name, endpoint: "http://" + forward.Address + v1alpha1.EndpointPath}
}

// errUnknownSession is what a pod says of a session that it does not know: 404.
var errUnknownSession = errors.New("the session is not known")

// begin opens a session and returns its id.
func (p *keyedPod) begin(ctx context.Context) (string, error) {
	a, err := p.send(ctx, "", `{"jsonrpc":"2.0","id":0,"method":"initialize","params":`+
		`{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"vmcp-e2e","version":"1"}}}`)
	if err != nil {
		return "", err
	}
	if a.status != http.StatusOK || a.session == "" {
		return "", fmt.Errorf("initialize at pod %s: %d %s", p.name, a.status, a.body)
	}
	return a.session, nil
}

// use pings in a session.
func (p *keyedPod) use(ctx context.Context, session string) error {
	_, err := p.post(ctx, session, `{"jsonrpc":"2.0","id":1,"method":"ping"}`)
	return err
}

func (p *keyedPod) post(ctx context.Context, session, body string) (string, error) {
	a, err := p.send(ctx, session, body)
	switch {
	case err != nil:
		return "", err
	case a.status == http.StatusNotFound:
		return "", fmt.Errorf("pod %s: %w", p.name, errUnknownSession)
	case a.status != http.StatusOK:
		return "", fmt.Errorf("pod %s: %d %s", p.name, a.status, a.body)
	default:
		return a.body, nil
	}
}

// answer is what a pod answers with; session is that which it began, if any.
type answer struct {
	status        int
	session, body string
}

func (p *keyedPod) send(ctx context.Context, session, body string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.endpoint, strings.NewReader(body))
	if err != nil {
		return answer{}, fmt.Errorf("asking pod %s: %w", p.name, err)
	}
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Content-Type", "application/json")
	if session != "" {
		r.Header.Set("Mcp-Session-Id", session)
		r.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{}, fmt.Errorf("asking pod %s: %w", p.name, err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, fmt.Errorf("asking pod %s: %w", p.name, err)
	}
	return answer{response.StatusCode, response.Header.Get("Mcp-Session-Id"), string(content)}, nil
}

// hasPrevious says whether the pod has taken keys over of which one is the previous one.
func (p *keyedPod) hasPrevious(ctx context.Context) error {
	log, err := kubectl.Run(ctx, "--namespace", namespace, "logs", p.name, "--container=vmcp")
	if err != nil {
		return err
	}
	for line := range strings.Lines(log) {
		if strings.Contains(line, "Session keys taken over") && strings.Contains(line, `"previous":true`) {
			return nil
		}
	}
	return fmt.Errorf("pod %s has not taken rotated keys over", p.name)
}

// knowEachOther says that a session begun at either pod is known to the other.
func knowEachOther(ctx context.Context, a, b *keyedPod) error {
	for _, pair := range [][2]*keyedPod{{a, b}, {b, a}} {
		session, err := pair[0].begin(ctx)
		if err != nil {
			return err
		}
		if err := pair[1].use(ctx, session); err != nil {
			return fmt.Errorf("a session of pod %s: %w", pair[0].name, err)
		}
	}
	return nil
}
