// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/vmcp-dev/vmcp-operator/test/audit"
)

func TestRules(t *testing.T) {
	t.Parallel()
	const (
		runtime  = "system:serviceaccount:demo:vmcp-demo"
		operator = "system:serviceaccount:vmcp-system:vmcp-operator"
	)
	event := func(user, agent, verb, resource, name string) audit.Event {
		e := audit.Event{Verb: verb, UserAgent: agent}
		e.User.Username, e.ObjectRef.Resource, e.ObjectRef.Name, e.ObjectRef.Namespace = user, resource, name, "demo"
		return e
	}
	for name, c := range map[string]struct {
		event             audit.Event
		secrets, backends bool
	}{
		"a named Secret":                      {event: event(runtime, "vmcp-runtime/demo", "get", "secrets", "token")},
		"a watch of a named Secret":           {event: event(runtime, "vmcp-runtime/demo", "watch", "secrets", "token")},
		"a watch of all":                      {event: event(runtime, "vmcp-runtime/demo", "watch", "secrets", ""), secrets: true},
		"a list of all":                       {event: event(operator, "vmcp-operator/cache", "list", "secrets", ""), secrets: true},
		"under another user agent":            {event: event(operator, "curl/8", "list", "secrets", ""), secrets: true},
		"an administrator":                    {event: event("kubernetes-admin", "kubectl", "list", "secrets", ""), secrets: true},
		"the node":                            {event: event("system:node:vmcp-node", "kubelet/v1", "watch", "secrets", "")},
		"the API server":                      {event: event("system:apiserver", "kube-apiserver/v1", "watch", "secrets", "")},
		"a controller of Kubernetes":          {event: event("system:serviceaccount:kube-system:generic-garbage-collector", "kcm", "list", "secrets", "")},
		"other objects":                       {event: event(runtime, "vmcp-runtime/demo", "watch", "configmaps", "")},
		"the group controller's backends":     {event: event(operator, "vmcp-operator/mcpgroup", "list", "mcpbackends", "")},
		"the controller's own":                {event: event(operator, "vmcp-operator/virtualmcpserver", "patch", "deployments", "vmcp-demo")},
		"the controller, a backend":           {event: event(operator, "vmcp-operator/virtualmcpserver", "get", "mcpbackends", "a"), backends: true},
		"the controller, an auth config":      {event: event(operator, "vmcp-operator/virtualmcpserver", "get", "mcpexternalauthconfigs", "a"), backends: true},
		"the controller, a Secret":            {event: event(operator, "vmcp-operator/virtualmcpserver", "get", "secrets", "a"), backends: true},
		"the controller, agent with a suffix": {event: event(operator, "vmcp-operator/virtualmcpserver (linux)", "get", "secrets", "a"), backends: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			g.Expect(audit.SecretsAreNamed(&c.event) != "").To(Equal(c.secrets))
			g.Expect(audit.ControllerLooksAtNoBackend(&c.event) != "").To(Equal(c.backends))
		})
	}
}

func TestCheckTellsWhoDidWhat(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	path := filepath.Join(t.TempDir(), "audit.log")
	g.Expect(os.WriteFile(path, []byte(strings.TrimSpace(`
{"verb":"patch","userAgent":"vmcp-operator/virtualmcpserver","user":{"username":"o"},"objectRef":{"resource":"deployments"}}
{"verb":"patch","userAgent":"vmcp-operator/virtualmcpserver","user":{"username":"o"},"objectRef":{"resource":"deployments"}}
{"verb":"list","userAgent":"x (linux)","user":{"username":"u"},"objectRef":{"resource":"secrets","namespace":"demo"}}
`)+"\n"), 0o600)).To(Succeed())
	f, err := audit.Check(path, audit.SecretsAreNamed, audit.ControllerLooksAtNoBackend)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(f.Broken).To(Equal([]string{"x (linux) (u): list secrets in demo: all Secrets"}))
	g.Expect(f.Counts).To(Equal(map[string]int{"vmcp-operator/virtualmcpserver patch deployments": 2, "x list secrets": 1}))
}
