// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
	"github.com/vmcp-dev/vmcp-operator/runtime/config"
)

func manifest(name string) string { return filepath.Join("testdata", "manifests", name) }

func TestLoadValid(t *testing.T) {
	s, err := config.Load(manifest("valid.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var backends []string
	for _, b := range s.Backends {
		backends = append(backends, b.Name+" "+string(b.WireTransport())+" "+b.URL())
	}
	want := []string{"docs streamable-http https://docs.example.com/mcp", "alerts sse http://127.0.0.1:9001/sse"}
	if diff := cmp.Diff(want, backends); diff != "" {
		t.Error(diff)
	}
	if s.Server.Name != "team" || s.Group.Name != "team" || len(s.Warnings) != 0 {
		t.Errorf("server %q, group %q, warnings %q", s.Server.Name, s.Group.Name, s.Warnings)
	}
	if diff := cmp.Diff(map[string]string{"team": "docs", "since": "2026-01-02"}, s.Backends[0].Annotations); diff != "" {
		t.Error(diff)
	}
	if got := s.Backends[0].CreationTimestamp.UTC().String(); got != "2026-01-02 03:04:05 +0000 UTC" {
		t.Errorf("creationTimestamp %s", got)
	}
	c := s.Configuration()
	if c.Group != "team" || c.Source != v1alpha1.OutgoingAuthSourceDiscovered || c.Generation != 3 ||
		c.Aggregation.ConflictResolution.Prefix("docs") != "docs." {
		t.Errorf("configuration %+v", c)
	}
}

func TestLoadJSON(t *testing.T) {
	s, err := config.Load(manifest("json.json"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Server.Name != "team" || len(s.Backends) != 0 {
		t.Errorf("server %q, %d backends", s.Server.Name, len(s.Backends))
	}
}

func TestLoadWarnings(t *testing.T) {
	s, err := config.Load(manifest("warnings.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`F:6: MCPGroup "team" has no backends: VirtualMCPServer "team" serves nothing`,
		`F:11: spec.discovery has no effect: there is no cluster in which something could be found`,
		`F:17: MCPBackend "lost" is not served: it belongs to MCPGroup "taem", and VirtualMCPServer "team" serves "team"`,
		`F:22: nothing refers to MCPExternalAuthConfig "token"`,
	}
	if diff := cmp.Diff(want, strings.Split(strings.ReplaceAll(strings.Join(s.Warnings, "\n"), manifest("warnings.yaml"), "F"), "\n")); diff != "" {
		t.Error(diff)
	}
}

// Each file has mistakes, and each mistake is reported; F stands for the name of the file.
func TestLoadMistakes(t *testing.T) {
	for name, want := range map[string][]string{
		"aliases.yaml": {
			`F:6: the alias *e makes the document endless, or longer than 1048576 values`,
		},
		"auth.yaml": {
			`F:9: spec.outgoingAuth.backends[0].externalAuthConfigRef.name: Not found: "chosen": the file has no MCPExternalAuthConfig of this name; add it`,
			`F:27: spec.externalAuthConfigRef.name: Not found: "own": the file has no MCPExternalAuthConfig of this name; add it`,
			`F:44: spec.headerInjection.secretRef: Secret "unlabelled", which MCPExternalAuthConfig "unlabelled" names, may not be used as a credential; label it vmcp.dev/credential: "true"`,
			`F:53: spec.headerInjection.secretRef: Secret "absent", which MCPExternalAuthConfig "absent" names, does not exist; create it with the key "value" and the label vmcp.dev/credential: "true"`,
			`F:67: data.plain: must be in base64; put plain text into stringData`,
			`F:68: data.number: must be a string, found a number; put it into quotes`,
		},
		"cluster.yaml": {
			`F:17: spec.workload: Forbidden: needs a cluster: only remote backends can be served by vmcp serve -f`,
			`F:26: spec.service: Forbidden: needs a cluster: only remote backends can be served by vmcp serve -f`,
		},
		"empty.yaml": {
			`F: no VirtualMCPServer found: add one that names the MCPGroup to serve`,
		},
		"fields.yaml": {
			`F:5: metadata.labels.stage: must be a string, and kubectl takes yes for a boolean; put it into quotes`,
			`F:5: metadata.labels.version: must be a string, found a number; put it into quotes`,
			`F:7: spec.groupref: unknown field; did you mean groupRef?`,
			`F:10: spec.aggregation.conflictResolution: must be an object, found a string`,
			`F:11: spec.colour: unknown field; known here: groupRef, outgoingAuth, aggregation, health, endpoint, replicas, autoscaling, resources, imagePullSecrets, commonMetadata, patches`,
			`F:16: metadata: repeated; it is at line 15 already`,
			`F:22: spec.groupRef.name: must be a string, found a list`,
			`F:25: spec.workload.port: must be an integer, found a string`,
			`F:26: spec.workload.args: must be a list, found a string`,
			`F:29: spec.workload.env[0].value: must be a string, found a number; put it into quotes`,
			`F:30: spec.workload.env[1].title: unknown field; known here: name, value, valueFrom`,
			`F:32: spec.workload.resources.limits.memory: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'`,
			`F:39: spec.service.port: Invalid value: 99999999999: out of range`,
		},
		"kinds.yaml": {
			`F:2: kind: Deployment of apps/v1 cannot be served: vmcp serve -f reads VirtualMCPServer, MCPGroup, MCPBackend and MCPExternalAuthConfig of vmcp.dev/v1alpha1, and Secret of v1; keep other objects in another file`,
			`F:6: kind: MCPGroup of vmcp.dev/v1 cannot be served: vmcp serve -f reads VirtualMCPServer, MCPGroup, MCPBackend and MCPExternalAuthConfig of vmcp.dev/v1alpha1, and Secret of v1; keep other objects in another file`,
			`F:9: a document must have apiVersion and kind`,
			`F:11: a document must be an object with apiVersion and kind, found a list`,
			`F:13: a document must be an object with apiVersion and kind, found a string`,
		},
		"nogroup.yaml": {
			`F:5: spec.groupRef.name: Not found: "team": the file defines no MCPGroup; add it`,
		},
		"none.yaml": {
			`F: no VirtualMCPServer found: add one that names the MCPGroup to serve`,
		},
		"references.yaml": {
			`F:6: spec.groupRef.name: Not found: "teem": the file defines "team"`,
			`F:14: metadata.namespace: Invalid value: "b": all objects must be in one namespace, and line 3 names "a"`,
			`F:21: metadata.name: Duplicate value: "docs": the MCPBackend of this name is at line 14 already; remove or rename one`,
		},
		"several.yaml": {
			`F:9: kind: exactly one VirtualMCPServer can be served, found "one" (line 4), "two" (line 11); put each into a file of its own`,
			`F:18: metadata.name: Duplicate value: "one": the VirtualMCPServer of this name is at line 4 already; remove or rename one`,
		},
		"syntax.yaml": {
			`F:5: spec.colour: unknown field; known here: description, discovery`,
			`F:11: not YAML: did not find expected ',' or '}'`,
		},
		"tab.yaml": {
			`F:4: not YAML: found character that cannot start any token`,
		},
		"values.yaml": {
			`F:3: metadata.name: Invalid value: "auth-team": names of VirtualMCPServers that begin with auth- are reserved`,
			`F:7: spec.outgoingAuth.source: Unsupported value: "guessed": supported values: "discovered", "inline"`,
			`F:10: spec.aggregation.conflictResolution.prefixFormat: Invalid value: "no placeholder": at most 32 characters of A-Z a-z 0-9 _ . - around exactly one {backend}`,
			`F:15: metadata.name: Invalid value: "1st": the name of an MCPBackend is a DNS label of at most 52 characters that begins with a letter: it becomes part of the name of a Service`,
			`F:19: spec.transport: Invalid value: "stdio": transport stdio is for workload only: a service or remote backend is reached over HTTP`,
			`F:21: spec.remote.url: Invalid value: "ftp://x": url must be an absolute http or https URL`,
			`F:27: spec.groupRef.name: Required value: name the MCPGroup that the backend belongs to`,
			`F:29: spec.remote.url: Invalid value: "https://me:xxxxx@example.com/mcp": url must not contain user information; credentials do not belong into a URL`,
			`F:34: spec: Invalid value: "2 of them set": exactly one of workload, service and remote must be set`,
			`F:45: spec.headerInjection.headerName: Invalid value: "Host": headerName must not be a header that HTTP or MCP give a meaning of their own`,
			`F:46: spec.headerInjection.secretRef.key: Required value: name the key`,
			`F:51: metadata.name: Required value: every object needs a name`,
			`F:53: spec.type: Unsupported value: "basic": supported values: "headerInjection"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := config.Load(manifest(name))
			var mistakes config.ManifestErrors
			if !errors.As(err, &mistakes) {
				t.Fatalf("got %v, %v", s, err)
			}
			got := strings.Split(strings.ReplaceAll(err.Error(), manifest(name), "F"), "\n")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			for _, m := range mistakes {
				if m.File != manifest(name) {
					t.Errorf("file %q", m.File)
				}
			}
		})
	}
}

func TestLoadCredentials(t *testing.T) {
	s, err := config.Load(manifest("credentials.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], `nothing refers to Secret "unused"`) {
		t.Errorf("warnings are %q", s.Warnings)
	}
	for i, want := range []string{"Bearer own", "fallback", "Bearer chosen"} {
		chosen := s.Auth(s.Backends[i])
		got, err := s.Credential(auth.StrategyOf(chosen.Config, chosen.Spec))
		if err != nil || got != auth.NewCredential(want) {
			t.Errorf("%s has other credentials, of %s: %v", s.Backends[i].Name, chosen.Config, err)
		}
	}
}

// A secret that somebody wrote into a file does not get into the log by way of an error.
func TestLoadKeepsPasswordsBack(t *testing.T) {
	for _, file := range []string{"values.yaml", "auth.yaml"} {
		_, err := config.Load(manifest(file))
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", file, err)
		}
	}
}

func TestLoadUnreadableFile(t *testing.T) {
	_, err := config.Load(manifest("absent.yaml"))
	var mistakes config.ManifestErrors
	if !errors.Is(err, fs.ErrNotExist) || errors.As(err, &mistakes) {
		t.Errorf("got %v", err)
	}
}

func TestLoadHugeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "huge.yaml")
	if err := os.WriteFile(path, []byte(strings.Repeat("#", 16<<20+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := config.Load(path)
	if want := path + ": a file of manifests has at most 16777216 bytes"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// selfReferences are documents whose aliases have no end, or a very far one.
func selfReferences() map[string]string {
	return map[string]string{
		"a merge of itself": "apiVersion: vmcp.dev/v1alpha1\nkind: MCPGroup\nmetadata: &a {name: team, <<: *a}\n",
		"merges in a ring":  "apiVersion: vmcp.dev/v1alpha1\nkind: MCPGroup\nmetadata: &a\n  name: team\n  <<: [{<<: *a}]\n",
		"a list of itself":  "apiVersion: vmcp.dev/v1alpha1\nkind: MCPBackend\nmetadata: {name: docs}\nspec: {groupRef: {name: team}, workload: &a {args: [*a]}}\n",
		"a value of itself": "apiVersion: vmcp.dev/v1alpha1\nkind: MCPGroup\nmetadata: &a {name: team, labels: *a}\n",
		"2^24 strings": "apiVersion: vmcp.dev/v1alpha1\nkind: MCPGroup\nmetadata: {name: team, annotations: {" +
			"a: &a [x,x,x,x,x,x,x,x], b: &b [*a,*a,*a,*a,*a,*a,*a,*a], c: &c [*b,*b,*b,*b,*b,*b,*b,*b], " +
			"d: &d [*c,*c,*c,*c,*c,*c,*c,*c], e: &e [*d,*d,*d,*d,*d,*d,*d,*d], f: &f [*e,*e,*e,*e,*e,*e,*e,*e], " +
			"g: &g [*f,*f,*f,*f,*f,*f,*f,*f], h: [*g,*g,*g,*g,*g,*g,*g,*g]}}\n",
		"2^30 merges": "apiVersion: vmcp.dev/v1alpha1\nkind: MCPGroup\nmetadata:\n  name: team\n  annotations:\n" + doublings(30) + "    <<: *m30\n",
	}
}

// doublings are mappings that each merge the one before twice.
func doublings(n int) string {
	text := "    m0: &m0 {x: y}\n"
	for i := 1; i <= n; i++ {
		text += fmt.Sprintf("    m%d: &m%d {<<: [*m%d, *m%d]}\n", i, i, i-1, i-1)
	}
	return text
}

func TestLoadEndless(t *testing.T) {
	for name, text := range selfReferences() {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "manifests.yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := config.Load(file)
			var mistakes config.ManifestErrors
			if !errors.As(err, &mistakes) || !strings.Contains(mistakes.Error(), "alias") {
				t.Errorf("got %v", err)
			}
		})
	}
}
