// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

func ports(named ...any) []corev1.ServicePort {
	var ports []corev1.ServicePort
	for i := 0; i < len(named); i += 2 {
		ports = append(ports, corev1.ServicePort{Name: named[i].(string), Port: int32(named[i+1].(int))})
	}
	return ports
}

func TestServiceMember(t *testing.T) {
	dns := corev1.ServicePort{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}
	for name, c := range map[string]struct {
		annotations map[string]string
		typ         corev1.ServiceType
		ports       []corev1.ServicePort
		url         string
		transport   v1alpha1.Transport
		message     string // a part of it
	}{
		"its only port":              {ports: ports("", 80), url: "http://docs.apps.svc/mcp"},
		"its only TCP port":          {ports: append(ports("http", 8080), dns), url: "http://docs.apps.svc:8080/mcp"},
		"the port named mcp":         {ports: ports("http", 80, "mcp", 9000), url: "http://docs.apps.svc:9000/mcp"},
		"a port by name":             {ports: ports("http", 80, "mcp", 9000), annotations: map[string]string{v1alpha1.PortAnnotation: "http"}, url: "http://docs.apps.svc/mcp"},
		"a port by number":           {ports: ports("a", 80, "b", 81), annotations: map[string]string{v1alpha1.PortAnnotation: "81"}, url: "http://docs.apps.svc:81/mcp"},
		"path and transport":         {ports: ports("", 80), annotations: map[string]string{v1alpha1.PathAnnotation: "/v1/sse", v1alpha1.TransportAnnotation: "sse"}, url: "http://docs.apps.svc/v1/sse", transport: v1alpha1.TransportSSE},
		"several ports, none named":  {ports: ports("a", 80, "b", 81), message: `metadata.annotations[vmcp.dev/port]: Required value: the Service has 2 TCP ports; name one of them`},
		"no port":                    {message: "the Service has 0 TCP ports"},
		"a port that it has not":     {ports: ports("", 80), annotations: map[string]string{v1alpha1.PortAnnotation: "81"}, message: `metadata.annotations[vmcp.dev/port]: Invalid value: "81": the Service has no TCP port of this name or number`},
		"a port of another protocol": {ports: []corev1.ServicePort{dns}, annotations: map[string]string{v1alpha1.PortAnnotation: "53"}, message: "no TCP port"},
		"a path with a query":        {ports: ports("", 80), annotations: map[string]string{v1alpha1.PathAnnotation: "/mcp?token=1"}, message: `metadata.annotations[vmcp.dev/path]: Invalid value: "/mcp?token=1": must be an absolute path without a query`},
		"a path with a host":         {ports: ports("", 80), annotations: map[string]string{v1alpha1.PathAnnotation: "@evil.example.com/"}, message: "must be an absolute path"},
		"a path that is too long":    {ports: ports("", 80), annotations: map[string]string{v1alpha1.PathAnnotation: "/" + strings.Repeat("a", 512)}, message: "Too long"},
		"an unknown transport":       {ports: ports("", 80), annotations: map[string]string{v1alpha1.TransportAnnotation: "stdio"}, message: `metadata.annotations[vmcp.dev/transport]: Unsupported value: "stdio"`},
		"any host":                   {ports: ports("", 80), typ: corev1.ServiceTypeExternalName, message: "spec.type: Invalid value: \"ExternalName\": a Service of this type stands for any host"},
	} {
		t.Run(name, func(t *testing.T) {
			got := v1alpha1.ServiceMember(&corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Name: "docs", Namespace: "apps", Annotations: c.annotations},
				Spec:       corev1.ServiceSpec{Type: c.typ, Ports: c.ports},
			})
			checkMember(t, got, c.url, c.message)
			if c.transport == "" {
				c.transport = v1alpha1.TransportStreamableHTTP
			}
			if got.Kind != "Service" || got.Name != "docs" || got.Source != v1alpha1.BackendSourceService ||
				got.Transport != c.transport || got.DeclaredTransport != c.transport || got.AuthRef != nil {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func checkMember(t *testing.T, got v1alpha1.Member, url, message string) {
	t.Helper()
	if got.URL != url || !strings.Contains(got.Message, message) || (got.Reason != "") != (message != "") {
		t.Errorf("got URL %q, reason %q, message %q", got.URL, got.Reason, got.Message)
	}
}

func TestMCPServerMember(t *testing.T) {
	for name, c := range map[string]struct {
		name    string
		spec    map[string]any
		url     string
		message string
	}{
		"port":                 {spec: map[string]any{"config": map[string]any{"port": int64(8080)}}, url: "http://docs.apps.svc:8080/mcp"},
		"port and path":        {spec: map[string]any{"config": map[string]any{"port": int64(80), "path": "/v1"}}, url: "http://docs.apps.svc/v1"},
		"TLS":                  {spec: map[string]any{"config": map[string]any{"port": int64(443)}, "transport": map[string]any{"tls": map[string]any{"enabled": true}}}, url: "https://docs.apps.svc/mcp"},
		"no port":              {spec: map[string]any{"config": map[string]any{}}, message: "spec.config.port: Invalid value: 0: must be between 1 and 65535"},
		"a port that is none":  {spec: map[string]any{"config": map[string]any{"port": "http"}}, message: "spec.config.port"},
		"a path that is none":  {spec: map[string]any{"config": map[string]any{"port": int64(80), "path": []any{}}}, message: "spec.config.path"},
		"a path with a query":  {spec: map[string]any{"config": map[string]any{"port": int64(80), "path": "/?a"}}, message: "must be an absolute path"},
		"nothing":              {message: "spec.config.port"},
		"no name of a Service": {name: "a.b", spec: map[string]any{"config": map[string]any{"port": int64(80)}}, message: "metadata.name: Invalid value: \"a.b\": no Service can have this name"},
	} {
		t.Run(name, func(t *testing.T) {
			o := &unstructured.Unstructured{Object: map[string]any{"spec": c.spec}}
			o.SetNamespace("apps")
			if c.name == "" {
				c.name = "docs"
			}
			o.SetName(c.name)
			got := v1alpha1.MCPServerMember(o)
			checkMember(t, got, c.url, c.message)
			if got.Kind != "MCPServer" || got.Name != c.name || got.Source != v1alpha1.BackendSourceService {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// A name is one member's: whoever may label a Service must not receive the credentials of an MCPBackend by calling it the same.
func TestMembersClash(t *testing.T) {
	auth := v1alpha1.OutgoingAuth{Backends: []v1alpha1.BackendAuth{{Name: "docs", ExternalAuthConfigRef: v1alpha1.LocalReference{Name: "secret"}}}}
	members := v1alpha1.Members(
		v1alpha1.Member{Kind: "Service", Name: "wiki"},
		v1alpha1.Member{Kind: "Service", Name: "docs"},
		v1alpha1.Member{Kind: "MCPServer", Name: "docs"},
		v1alpha1.Member{Kind: "MCPBackend", Name: "docs", Reason: v1alpha1.ReasonInvalidSpec},
		v1alpha1.Member{Kind: "Service", Name: "files"},
		v1alpha1.Member{Kind: "MCPServer", Name: "files"},
	)
	var got []string
	for _, m := range members {
		config := m.ResolveAuth(auth, func(string) *v1alpha1.MCPExternalAuthConfig { return nil }).Config
		got = append(got, strings.TrimSpace(strings.Join([]string{m.Kind, m.Name, m.Reason, config}, " ")))
	}
	want := []string{
		"MCPBackend docs InvalidSpec secret", "MCPServer docs NameClash", "Service docs NameClash",
		"MCPServer files", "Service files NameClash", "Service wiki",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if message := members[2].Message; message != `the group has MCPBackend "docs" as well, whose name comes first; give one of them another name` {
		t.Errorf("message %q", message)
	}
}

func TestJoins(t *testing.T) {
	for name, c := range map[string]struct {
		labels map[string]string
		group  string
		want   bool
	}{
		"labelled":     {map[string]string{v1alpha1.GroupLabel: "team"}, "team", true},
		"another":      {map[string]string{v1alpha1.GroupLabel: "other"}, "team", false},
		"not labelled": {nil, "", false},
		"provisioned":  {map[string]string{v1alpha1.GroupLabel: "team", v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}, "team", false},
	} {
		if got := v1alpha1.Joins(&metav1.ObjectMeta{Labels: c.labels}, c.group); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
