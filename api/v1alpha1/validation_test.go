// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// api is a client of a real API server that has the generated CRDs.
var api client.Client

func TestMain(m *testing.M) {
	code, err := runSuite(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runSuite(m *testing.M) (code int, err error) {
	environment := &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join("..", "..", "config", "crd", "bases")},
		ErrorIfCRDPathMissing: true,
	}
	config, err := environment.Start()
	if err != nil {
		return 0, fmt.Errorf("starting kube-apiserver and etcd (KUBEBUILDER_ASSETS must name their folder): %w", err)
	}
	defer func() {
		if stopErr := environment.Stop(); err == nil && stopErr != nil {
			err = fmt.Errorf("stopping kube-apiserver and etcd: %w", stopErr)
		}
	}()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return 0, err
	}
	if api, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

func backend(change func(*v1alpha1.MCPBackend)) *v1alpha1.MCPBackend {
	b := &v1alpha1.MCPBackend{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "backend"},
		Spec:       v1alpha1.MCPBackendSpec{GroupRef: v1alpha1.LocalReference{Name: "team"}},
	}
	change(b)
	return b
}

func remote(url string) func(*v1alpha1.MCPBackend) {
	return func(b *v1alpha1.MCPBackend) { b.Spec.Remote = &v1alpha1.RemoteBackend{URL: url} }
}

func workload(w v1alpha1.Workload) func(*v1alpha1.MCPBackend) {
	return func(b *v1alpha1.MCPBackend) {
		if w.Image == "" {
			w.Image = "registry.example.com/server:v1"
		}
		b.Spec.Workload = &w
	}
}

func all(changes ...func(*v1alpha1.MCPBackend)) func(*v1alpha1.MCPBackend) {
	return func(b *v1alpha1.MCPBackend) {
		for _, change := range changes {
			change(b)
		}
	}
}

func transport(t v1alpha1.Transport) func(*v1alpha1.MCPBackend) {
	return func(b *v1alpha1.MCPBackend) { b.Spec.Transport = t }
}

func named(name string) func(*v1alpha1.MCPBackend) {
	return func(b *v1alpha1.MCPBackend) { b.Name = name }
}

func service(name string) func(*v1alpha1.MCPBackend) {
	return func(b *v1alpha1.MCPBackend) { b.Spec.Service = &v1alpha1.ServiceBackend{Name: name, Port: 80} }
}

func TestMCPBackendValidation(t *testing.T) {
	const (
		oneOf    = "exactly one of workload, service and remote must be set"
		command  = "workload.command is required with transport stdio"
		stdio    = "transport stdio is for workload only"
		absolute = "url must be an absolute http or https URL"
		userinfo = "url must not contain user information"
		name     = "is a DNS label of at most 52 characters that begins with a letter"
	)
	for title, c := range map[string]struct {
		change func(*v1alpha1.MCPBackend)
		// want is part of the API server's message; "" means that the object is accepted.
		want string
		// schemaOnly marks what Validate leaves to the schema.
		schemaOnly bool
	}{
		"remote":            {change: remote("https://mcp.example.com/mcp")},
		"remote, plain":     {change: remote("http://mcp.example.com:8080/a/b?c=d")},
		"remote, at sign":   {change: remote("https://mcp.example.com/@scope/mcp")},
		"remote, IPv6":      {change: remote("https://[2001:db8::1]:8443/mcp")},
		"service":           {change: service("docs")},
		"workload":          {change: workload(v1alpha1.Workload{})},
		"stdio":             {change: all(transport("stdio"), workload(v1alpha1.Workload{Command: []string{"/server"}}))},
		"sse":               {change: all(transport("sse"), remote("https://mcp.example.com/sse"))},
		"longest name":      {change: all(named(strings.Repeat("a", 52)), service("docs"))},
		"none":              {change: func(*v1alpha1.MCPBackend) {}, want: oneOf},
		"two":               {change: all(service("docs"), remote("https://mcp.example.com/mcp")), want: oneOf},
		"three":             {change: all(service("docs"), remote("https://mcp.example.com/mcp"), workload(v1alpha1.Workload{})), want: oneOf},
		"stdio, no command": {change: all(transport("stdio"), workload(v1alpha1.Workload{})), want: command},
		"stdio, remote":     {change: all(transport("stdio"), remote("https://mcp.example.com/mcp")), want: stdio},
		"stdio, service":    {change: all(transport("stdio"), service("docs")), want: stdio},
		"unknown transport": {change: all(transport("carrier-pigeon"), service("docs")), want: "Unsupported value"},
		"relative URL":      {change: remote("/mcp"), want: absolute},
		"no host":           {change: remote("https:///mcp"), want: absolute},
		"other scheme":      {change: remote("ftp://mcp.example.com/mcp"), want: absolute},
		"file":              {change: remote("file:///etc/passwd"), want: absolute},
		"user":              {change: remote("https://me@mcp.example.com/mcp"), want: userinfo},
		"password":          {change: remote("https://me:hunter2@mcp.example.com/mcp"), want: userinfo},
		"fragment":          {change: remote("https://mcp.example.com/mcp#top"), want: "url must not have a fragment"},
		"no group": {change: all(service("docs"), func(b *v1alpha1.MCPBackend) { b.Spec.GroupRef.Name = "" }),
			want: "spec.groupRef.name"},
		"name too long":      {change: all(named(strings.Repeat("a", 53)), service("docs")), want: name, schemaOnly: true},
		"name with a dot":    {change: all(named("a.b"), service("docs")), want: name, schemaOnly: true},
		"name with a digit":  {change: all(named("1a"), service("docs")), want: name, schemaOnly: true},
		"privileged port":    {change: workload(v1alpha1.Workload{Port: 80}), want: "greater than or equal to 1024", schemaOnly: true},
		"path with a space":  {change: workload(v1alpha1.Workload{Path: "/a b"}), want: "spec.workload.path", schemaOnly: true},
		"relative path":      {change: workload(v1alpha1.Workload{Path: "mcp"}), want: "spec.workload.path", schemaOnly: true},
		"unknown pullPolicy": {change: workload(v1alpha1.Workload{ImagePullPolicy: "Sometimes"}), want: "Unsupported value", schemaOnly: true},
		"reserved volume": {change: workload(v1alpha1.Workload{Volumes: []v1alpha1.Volume{
			{Name: "vmcp-bridge", EmptyDir: &v1alpha1.EmptyDirVolume{}},
		}}), want: "names of volumes that begin with vmcp- are reserved", schemaOnly: true},
		"mount of nothing": {change: workload(v1alpha1.Workload{VolumeMounts: []v1alpha1.VolumeMount{{Name: "data", MountPath: "/data"}}}),
			want: "each of volumeMounts must name one of volumes", schemaOnly: true},
		"relative mount": {change: workload(v1alpha1.Workload{
			Volumes:      []v1alpha1.Volume{{Name: "data", EmptyDir: &v1alpha1.EmptyDirVolume{}}},
			VolumeMounts: []v1alpha1.VolumeMount{{Name: "data", MountPath: "relative"}},
		}), want: "spec.workload.volumeMounts[0].mountPath", schemaOnly: true},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			b := backend(c.change)
			verify(t, b, c.want)
			if !c.schemaOnly {
				agree(g, b.Validate(), c.want)
			}
			g.Expect(b.Validate()).NotTo(ContainElement(MatchError(ContainSubstring("hunter2"))), "a password in a message")
		})
	}
}

func hosts(hosts ...string) func(*v1alpha1.VirtualMCPServer) {
	return operand(func(s *v1alpha1.VirtualMCPServerSpec) {
		for _, host := range hosts {
			s.Endpoint.AllowedHosts = append(s.Endpoint.AllowedHosts, v1alpha1.AllowedHost(host))
		}
	})
}

func origins(origins ...string) func(*v1alpha1.VirtualMCPServer) {
	return operand(func(s *v1alpha1.VirtualMCPServerSpec) {
		for _, origin := range origins {
			s.Endpoint.AllowedOrigins = append(s.Endpoint.AllowedOrigins, v1alpha1.AllowedOrigin(origin))
		}
	})
}

func ruled(rules ...v1alpha1.BackendTools) func(*v1alpha1.VirtualMCPServer) {
	return operand(func(s *v1alpha1.VirtualMCPServerSpec) { s.Aggregation.Tools = rules })
}

func overridden(overrides ...v1alpha1.ToolOverride) func(*v1alpha1.VirtualMCPServer) {
	return ruled(v1alpha1.BackendTools{Backend: "a", Overrides: overrides})
}

func prioritized(backends ...string) func(*v1alpha1.VirtualMCPServer) {
	return operand(func(s *v1alpha1.VirtualMCPServerSpec) {
		s.Aggregation.ConflictResolution = v1alpha1.ConflictResolution{Strategy: v1alpha1.ConflictResolutionPriority, Priority: backends}
	})
}

func numbered(count int) []string {
	var names []string
	for i := range count {
		names = append(names, fmt.Sprintf("backend-%d", i))
	}
	return names
}

func patterns(count int) []v1alpha1.ToolPattern {
	var patterns []v1alpha1.ToolPattern
	for _, name := range numbered(count) {
		patterns = append(patterns, v1alpha1.ToolPattern(name))
	}
	return patterns
}

func rulesFor(count int) []v1alpha1.BackendTools {
	var rules []v1alpha1.BackendTools
	for _, name := range numbered(count) {
		rules = append(rules, v1alpha1.BackendTools{Backend: name, Visibility: v1alpha1.ToolsHidden})
	}
	return rules
}

func TestVirtualMCPServerValidation(t *testing.T) {
	for title, c := range map[string]struct {
		change     func(*v1alpha1.VirtualMCPServer)
		want       string
		schemaOnly bool
	}{
		"smallest":     {change: func(*v1alpha1.VirtualMCPServer) {}},
		"longest name": {change: func(s *v1alpha1.VirtualMCPServer) { s.Name = strings.Repeat("a", 52) }},
		"no group": {change: func(s *v1alpha1.VirtualMCPServer) { s.Spec.GroupRef.Name = "" },
			want: "spec.groupRef.name"},
		"unknown source": {change: func(s *v1alpha1.VirtualMCPServer) { s.Spec.OutgoingAuth.Source = "guessed" },
			want: "spec.outgoingAuth.source"},
		"unknown strategy": {change: func(s *v1alpha1.VirtualMCPServer) { s.Spec.Aggregation.ConflictResolution.Strategy = "dice" },
			want: "spec.aggregation.conflictResolution.strategy"},
		"prefix without the backend": {change: func(s *v1alpha1.VirtualMCPServer) { s.Spec.Aggregation.ConflictResolution.PrefixFormat = "x_" },
			want: "spec.aggregation.conflictResolution.prefixFormat"},
		"priority without a list": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) {
			s.Aggregation.ConflictResolution.Strategy = v1alpha1.ConflictResolutionPriority
		}), want: "the strategy priority needs priority"},
		"a list without priority": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) {
			s.Aggregation.ConflictResolution.Priority = []string{"a"}
		}), want: "priority belongs to the strategy priority"},
		"a backend twice in priority": {change: prioritized("a", "b", "a"), want: "spec.aggregation.conflictResolution.priority"},
		"a nameless backend":          {change: prioritized(""), want: "spec.aggregation.conflictResolution.priority[0]"},
		"longest priority":            {change: prioritized(numbered(v1alpha1.MaxPriority)...)},
		"too many in priority":        {change: prioritized(numbered(v1alpha1.MaxPriority + 1)...), want: "spec.aggregation.conflictResolution.priority"},
		"rules for tools": {change: ruled(
			v1alpha1.BackendTools{Backend: "a", Include: []v1alpha1.ToolPattern{"get_*", "list_?"}, Exclude: []v1alpha1.ToolPattern{"*"}},
			v1alpha1.BackendTools{Backend: "b", Visibility: v1alpha1.ToolsHidden},
			v1alpha1.BackendTools{Backend: "c", Visibility: v1alpha1.ToolsExposed, Overrides: []v1alpha1.ToolOverride{
				{Tool: strings.Repeat("ü", 256), Name: strings.Repeat("n", 64)}, {Tool: "b/c d", Title: "B"}, {Tool: "e", Description: "Does E."},
			}})},
		"most rules":                {change: ruled(rulesFor(v1alpha1.MaxToolRules)...)},
		"too many rules":            {change: ruled(rulesFor(v1alpha1.MaxToolRules + 1)...), want: "spec.aggregation.tools"},
		"two rules for one backend": {change: ruled(v1alpha1.BackendTools{Backend: "a"}, v1alpha1.BackendTools{Backend: "a"}), want: "Duplicate value"},
		"rule for no backend":       {change: ruled(v1alpha1.BackendTools{}), want: "spec.aggregation.tools[0].backend"},
		"unknown visibility":        {change: ruled(v1alpha1.BackendTools{Backend: "a", Visibility: "Blurred"}), want: "spec.aggregation.tools[0].visibility"},
		"empty pattern":             {change: ruled(v1alpha1.BackendTools{Backend: "a", Include: []v1alpha1.ToolPattern{""}}), want: "spec.aggregation.tools[0].include[0]"},
		"pattern too long": {change: ruled(v1alpha1.BackendTools{Backend: "a", Exclude: []v1alpha1.ToolPattern{
			v1alpha1.ToolPattern(strings.Repeat("*", 129))}}), want: "spec.aggregation.tools[0].exclude[0]"},
		"pattern twice":  {change: ruled(v1alpha1.BackendTools{Backend: "a", Exclude: []v1alpha1.ToolPattern{"x", "x"}}), want: "Duplicate value"},
		"most patterns":  {change: ruled(v1alpha1.BackendTools{Backend: "a", Include: patterns(v1alpha1.MaxToolPatterns)})},
		"many patterns":  {change: ruled(v1alpha1.BackendTools{Backend: "a", Include: patterns(v1alpha1.MaxToolPatterns + 1)}), want: "spec.aggregation.tools[0].include"},
		"empty override": {change: overridden(v1alpha1.ToolOverride{Tool: "a"}), want: "an override must set at least one of name, title and description"},
		"override of nothing": {change: overridden(v1alpha1.ToolOverride{Name: "a"}),
			want: "spec.aggregation.tools[0].overrides[0].tool"},
		"illegal name": {change: overridden(v1alpha1.ToolOverride{Tool: "a", Name: "a b"}),
			want: "name must consist of A-Z a-z 0-9 _ - and dot"},
		"name of a tool too long": {change: overridden(v1alpha1.ToolOverride{Tool: "a", Name: strings.Repeat("n", 65)}),
			want: "spec.aggregation.tools[0].overrides[0].name"},
		"title too long": {change: overridden(v1alpha1.ToolOverride{Tool: "a", Title: strings.Repeat("ü", 129)}),
			want: "spec.aggregation.tools[0].overrides[0].title"},
		"description too long": {change: overridden(v1alpha1.ToolOverride{Tool: "a", Description: strings.Repeat("ü", 4097)}),
			want: "spec.aggregation.tools[0].overrides[0].description"},
		"two overrides of a tool": {change: overridden(v1alpha1.ToolOverride{Tool: "a", Name: "b"}, v1alpha1.ToolOverride{Tool: "a", Name: "c"}),
			want: "Duplicate value"},
		"operand": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) {
			s.CommonMetadata = v1alpha1.CommonMetadata{
				Labels:      map[string]v1alpha1.LabelValue{"team": "platform", "example.com/empty": ""},
				Annotations: map[string]v1alpha1.AnnotationValue{"example.com/owner": "Ada <ada@example.com>"},
			}
			s.Resources = resources("100m", "1")
			s.ImagePullSecrets = []v1alpha1.LocalReference{{Name: "a"}, {Name: "b"}}
			s.Patches = []v1alpha1.Patch{{Target: v1alpha1.PatchTarget{Kind: "Deployment"}, Patch: "spec: {replicas: 2}"}}
		})},
		"longest patches": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) {
			for range v1alpha1.MaxPatches {
				s.Patches = append(s.Patches, v1alpha1.Patch{
					Target: v1alpha1.PatchTarget{Kind: "Service"}, Patch: strings.Repeat("#", v1alpha1.MaxPatchLength),
				})
			}
		})},
		"too many patches": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) {
			for range v1alpha1.MaxPatches + 1 {
				s.Patches = append(s.Patches, v1alpha1.Patch{Target: v1alpha1.PatchTarget{Kind: "Service"}, Patch: "{}"})
			}
		}), want: "spec.patches"},
		"patch too long":   {change: patched("Service", strings.Repeat("#", v1alpha1.MaxPatchLength+1)), want: "spec.patches[0].patch"},
		"empty patch":      {change: patched("Service", ""), want: "spec.patches[0].patch"},
		"patch of nothing": {change: patched("", "{}"), want: "spec.patches[0].target.kind"},
		"patch of another": {change: patched("Secret", "{}"), want: "spec.patches[0].target.kind"},
		"our label": {change: labelled("vmcp.dev/virtualmcpserver", "x"),
			want: "labels of vmcp.dev are the operator's own"},
		"label of our subdomain":  {change: labelled("a.vmcp.dev/x", "x"), want: "labels of vmcp.dev are the operator's own"},
		"label of another domain": {change: labelled("notvmcp.dev/x", "x")},
		"label of the operand":    {change: labelled("app.kubernetes.io/managed-by", "me"), want: "are set by the operator"},
		"version label":           {change: labelled("app.kubernetes.io/version", "v1")},
		"key of a label":          {change: labelled("a b", "x"), want: "the key of a label"},
		"value of a label":        {change: labelled("a", "b c"), want: "spec.commonMetadata.labels.a"},
		"too many labels": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) {
			s.CommonMetadata.Labels = map[string]v1alpha1.LabelValue{}
			for i := range 17 {
				s.CommonMetadata.Labels[fmt.Sprintf("l%d", i)] = "x"
			}
		}), want: "spec.commonMetadata.labels"},
		"our annotation": {change: annotated(v1alpha1.PausedAnnotation, "true"),
			want: "annotations of vmcp.dev are the operator's own"},
		"annotation of Kubernetes": {change: annotated("deployment.kubernetes.io/revision", "1"),
			want: "annotations of deployment.kubernetes.io are written by Kubernetes itself"},
		"key of an annotation": {change: annotated("/", "x"), want: "the key of an annotation"},
		"annotation too long": {change: annotated("a", v1alpha1.AnnotationValue(strings.Repeat("x", 4097))),
			want: "spec.commonMetadata.annotations.a"},
		"pull secret of no name": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) {
			s.ImagePullSecrets = []v1alpha1.LocalReference{{}}
		}), want: "spec.imagePullSecrets[0].name"},
		"pull secret twice": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) {
			s.ImagePullSecrets = []v1alpha1.LocalReference{{Name: "a"}, {Name: "a"}}
		}), want: "Duplicate value"},
		"endpoint, credentials and replicas": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) {
			s.Endpoint = v1alpha1.Endpoint{PublicURL: "https://mcp.example.com/mcp", Service: v1alpha1.EndpointService{
				Type: "LoadBalancer", Port: 65535, Annotations: map[string]v1alpha1.AnnotationValue{"example.com/pool": "internal"},
			}}
			s.OutgoingAuth = v1alpha1.OutgoingAuth{
				Source:   v1alpha1.OutgoingAuthSourceInline,
				Default:  &v1alpha1.DefaultAuth{ExternalAuthConfigRef: v1alpha1.LocalReference{Name: "common"}},
				Backends: []v1alpha1.BackendAuth{{Name: "docs", ExternalAuthConfigRef: v1alpha1.LocalReference{Name: "special"}}},
			}
			s.Replicas = new(int32(0))
		})},
		"hosts and origins": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) {
			s.Endpoint.AllowedHosts = []v1alpha1.AllowedHost{"mcp.example.com", "gateway", "10.0.0.7", "fd00::7"}
			s.Endpoint.AllowedOrigins = []v1alpha1.AllowedOrigin{"https://app.example.com", "http://localhost:3000", "https://[fd00::7]:8443"}
		})},
		"most hosts":          {change: hosts(numbered(v1alpha1.MaxAllowedHosts)...)},
		"too many hosts":      {change: hosts(numbered(v1alpha1.MaxAllowedHosts + 1)...), want: "spec.endpoint.allowedHosts"},
		"host with a port":    {change: hosts("a.example.com:443"), want: "an allowed host is a DNS name in lower case, or an IP address, without a port"},
		"host in upper case":  {change: hosts("A.example.com"), want: "an allowed host is a DNS name in lower case"},
		"host of no name":     {change: hosts(""), want: "spec.endpoint.allowedHosts[0]"},
		"host twice":          {change: hosts("a", "a"), want: "Duplicate value"},
		"origin twice":        {change: origins("https://a", "https://a"), want: "Duplicate value"},
		"origin with a path":  {change: origins("https://a.example.com/"), want: "an allowed origin is http or https, a host and perhaps a port, with nothing behind"},
		"origin with a user":  {change: origins("https://me@a.example.com"), want: "an allowed origin is"},
		"origin of no scheme": {change: origins("a.example.com"), want: "an allowed origin is"},
		"origin of any":       {change: origins("*"), want: "an allowed origin is"},
		"origin of a file":    {change: origins("null"), want: "an allowed origin is"},
		"origin of no port":   {change: origins("https://a:"), want: "an allowed origin is"},
		"public URL of another scheme": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) { s.Endpoint.PublicURL = "ftp://example.com" }),
			want: "publicURL must be an absolute http or https URL"},
		"public URL with a user": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) { s.Endpoint.PublicURL = "https://me@example.com/" }),
			want: "publicURL must not contain user information"},
		"public URL with a query": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) { s.Endpoint.PublicURL = "https://example.com/?a" }),
			want: "publicURL"},
		"Service without an address": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) { s.Endpoint.Service.Type = "ExternalName" }),
			want: "spec.endpoint.service.type"},
		"port too large": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) { s.Endpoint.Service.Port = 65536 }),
			want: "spec.endpoint.service.port"},
		"our annotation of the Service": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) {
			s.Endpoint.Service.Annotations = map[string]v1alpha1.AnnotationValue{v1alpha1.PausedAnnotation: "true"}
		}), want: "spec.endpoint.service.annotations"},
		"credentials for no backend": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) {
			s.OutgoingAuth.Backends = []v1alpha1.BackendAuth{{ExternalAuthConfigRef: v1alpha1.LocalReference{Name: "a"}}}
		}), want: "spec.outgoingAuth.backends[0].name"},
		"credentials twice": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) {
			b := v1alpha1.BackendAuth{Name: "docs", ExternalAuthConfigRef: v1alpha1.LocalReference{Name: "a"}}
			s.OutgoingAuth.Backends = []v1alpha1.BackendAuth{b, b}
		}), want: "Duplicate value"},
		"default credentials of no name": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) { s.OutgoingAuth.Default = &v1alpha1.DefaultAuth{} }),
			want: "spec.outgoingAuth.default.externalAuthConfigRef.name"},
		"negative replicas": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) { s.Replicas = new(int32(-1)) }),
			want: "spec.replicas"},
		"autoscaling": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) { s.Autoscaling = &v1alpha1.Autoscaling{MaxReplicas: 3} })},
		"replicas and autoscaling": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) {
			s.Replicas, s.Autoscaling = new(int32(1)), &v1alpha1.Autoscaling{MaxReplicas: 3}
		}), want: "replicas and autoscaling exclude each other"},
		"more at least than at most": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) {
			s.Autoscaling = &v1alpha1.Autoscaling{MinReplicas: new(int32(4)), MaxReplicas: 3}
		}), want: "minReplicas must not exceed maxReplicas"},
		"dead before it is slow": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) { s.Health.SlowSeconds = 12 }),
			want: "must be greater than slowSeconds"},
		"probed all the time": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) { s.Health.IntervalSeconds = -1 }),
			want: "spec.health.intervalSeconds"},
		"never given up": {change: operand(func(s *v1alpha1.VirtualMCPServerSpec) { s.Health.FailureThreshold = 11 }),
			want: "spec.health.failureThreshold"},
		"name too long": {change: func(s *v1alpha1.VirtualMCPServer) { s.Name = strings.Repeat("a", 53) },
			want: "is a DNS label of at most 52 characters", schemaOnly: true},
		"reserved name": {change: func(s *v1alpha1.VirtualMCPServer) { s.Name = "auth-token" },
			want: "begin with auth- are reserved", schemaOnly: true},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			s := &v1alpha1.VirtualMCPServer{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "gateway"},
				Spec:       v1alpha1.VirtualMCPServerSpec{GroupRef: v1alpha1.LocalReference{Name: "team"}},
			}
			c.change(s)
			verify(t, s, c.want)
			if !c.schemaOnly {
				agree(g, s.Validate(), c.want)
			}
		})
	}
}

func operand(change func(*v1alpha1.VirtualMCPServerSpec)) func(*v1alpha1.VirtualMCPServer) {
	return func(s *v1alpha1.VirtualMCPServer) { change(&s.Spec) }
}

func patched(kind v1alpha1.PatchKind, text string) func(*v1alpha1.VirtualMCPServer) {
	return operand(func(s *v1alpha1.VirtualMCPServerSpec) {
		s.Patches = []v1alpha1.Patch{{Target: v1alpha1.PatchTarget{Kind: kind}, Patch: text}}
	})
}

func labelled(key string, value v1alpha1.LabelValue) func(*v1alpha1.VirtualMCPServer) {
	return operand(func(s *v1alpha1.VirtualMCPServerSpec) {
		s.CommonMetadata.Labels = map[string]v1alpha1.LabelValue{key: value}
	})
}

func annotated(key string, value v1alpha1.AnnotationValue) func(*v1alpha1.VirtualMCPServer) {
	return operand(func(s *v1alpha1.VirtualMCPServerSpec) {
		s.CommonMetadata.Annotations = map[string]v1alpha1.AnnotationValue{key: value}
	})
}

func resources(request, limit string) *v1alpha1.ComputeResources {
	return &v1alpha1.ComputeResources{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(request)},
		Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(limit)},
	}
}

// What the schema cannot say about resources is found before anything changes.
func TestResourcesAreValidated(t *testing.T) {
	for title, c := range map[string]struct {
		resources *v1alpha1.ComputeResources
		want      string
	}{
		"none":          {nil, ""},
		"equal":         {resources("1", "1000m"), ""},
		"above limit":   {resources("2", "1"), "resources.requests[cpu]"},
		"negative":      {resources("-1", "1"), "resources.requests[cpu]"},
		"name of one":   {&v1alpha1.ComputeResources{Limits: corev1.ResourceList{"a b": resource.MustParse("1")}}, "resources.limits"},
		"another limit": {&v1alpha1.ComputeResources{Limits: corev1.ResourceList{"memory": resource.MustParse("1")}}, ""},
	} {
		t.Run(title, func(t *testing.T) {
			g := NewWithT(t)
			s := &v1alpha1.VirtualMCPServer{
				ObjectMeta: metav1.ObjectMeta{Name: "gateway"},
				Spec:       v1alpha1.VirtualMCPServerSpec{GroupRef: v1alpha1.LocalReference{Name: "team"}, Resources: c.resources},
			}
			b := backend(workload(v1alpha1.Workload{Resources: c.resources}))
			for _, errs := range []field.ErrorList{s.Validate(), b.Validate()} {
				if c.want == "" {
					g.Expect(errs).To(BeEmpty())
				} else {
					g.Expect(errs.ToAggregate()).To(MatchError(ContainSubstring(c.want)))
				}
			}
		})
	}
}

func TestMCPGroupValidation(t *testing.T) {
	group := func(name string) *v1alpha1.MCPGroup {
		return &v1alpha1.MCPGroup{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	}
	verify(t, group(strings.Repeat("a", 63)), "")
	verify(t, group(strings.Repeat("a", 64)), "at most 63 characters")
}

// Defaults are in the stored object, so that a reader of the YAML sees what is in force.
func TestDefaults(t *testing.T) {
	g := NewWithT(t)
	s := &v1alpha1.VirtualMCPServer{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "defaults"},
		Spec:       v1alpha1.VirtualMCPServerSpec{GroupRef: v1alpha1.LocalReference{Name: "team"}},
	}
	g.Expect(api.Create(t.Context(), s, client.DryRunAll)).To(Succeed())
	g.Expect(s.Source()).To(Equal(v1alpha1.OutgoingAuthSourceDiscovered))
	g.Expect(s.Spec.Aggregation.ConflictResolution.Prefix("grafana")).To(Equal("grafana_"))

	b := backend(workload(v1alpha1.Workload{ImagePullPolicy: corev1.PullNever}))
	g.Expect(api.Create(t.Context(), b, client.DryRunAll)).To(Succeed())
	g.Expect(b.Spec.Transport).To(Equal(v1alpha1.TransportStreamableHTTP))
}

// verify asks the API server for its verdict, without storing anything.
func verify(t *testing.T, o client.Object, want string) {
	t.Helper()
	g := NewWithT(t)
	err := api.Create(t.Context(), o.DeepCopyObject().(client.Object), client.DryRunAll)
	if want == "" {
		g.Expect(err).NotTo(HaveOccurred())
		return
	}
	g.Expect(err).To(MatchError(ContainSubstring(want)))
	g.Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
}

// agree checks that Validate, for objects that pass no API server, has the same verdict.
func agree(g *WithT, errs field.ErrorList, want string) {
	if want == "" {
		g.Expect(errs).To(BeEmpty())
	} else {
		g.Expect(errs).NotTo(BeEmpty())
	}
}
