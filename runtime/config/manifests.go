// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// maxManifestBytes bounds a file of manifests.
const maxManifestBytes = 16 << 20

// Standalone is what a file of manifests describes: one gateway, its group and the backends of that group. Everything in it
// is valid.
type Standalone struct {
	Server *v1alpha1.VirtualMCPServer
	Group  *v1alpha1.MCPGroup
	// Backends are the members of the group, in the order of the file. All of them are remote.
	Backends []*v1alpha1.MCPBackend
	// authConfigs and secrets are all of the file, by name. Each backend's can be used.
	authConfigs map[string]*v1alpha1.MCPExternalAuthConfig
	secrets     map[string]*corev1.Secret
	// Warnings are sentences, with file and line, about what is allowed and yet seldom meant.
	Warnings []string
}

// Configuration is the configuration that the operator would render for the gateway.
func (s *Standalone) Configuration() *configv1alpha1.RuntimeConfiguration {
	return &configv1alpha1.RuntimeConfiguration{
		Generation:     s.Server.Generation,
		Group:          s.Group.Name,
		Source:         s.Server.Source(),
		Aggregation:    s.Server.Spec.Aggregation,
		Health:         s.Server.Spec.Health,
		AllowedOrigins: s.Server.Spec.Endpoint.Origins(),
	}
}

// ManifestError is one mistake in a file of manifests.
type ManifestError struct {
	// File is the file as the user named it.
	File string
	// Line is where the mistake is, from 1; 0 if it is nowhere in particular.
	Line int
	// Text names the field, and says what is wrong with it and what would be right.
	Text string
}

// Error is "file:line: text".
func (e ManifestError) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Text
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text)
}

func (e ManifestErrors) sorted() ManifestErrors {
	slices.SortStableFunc(e, func(a, b ManifestError) int { return cmp.Compare(a.Line, b.Line) })
	return e
}

// ManifestErrors are all the mistakes in a file of manifests, by line; there is at least one.
type ManifestErrors []ManifestError

// Error is one line for each mistake.
func (e ManifestErrors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Load reads a file of manifests, the same that kubectl apply takes. If its contents are wrong the error is a ManifestErrors
// with every mistake that was found.
func Load(path string) (*Standalone, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading manifests: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxManifestBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading manifests: %w", err)
	}
	if len(data) > maxManifestBytes {
		return nil, ManifestErrors{{File: path, Text: fmt.Sprintf("a file of manifests has at most %d bytes", maxManifestBytes)}}
	}
	return parseManifests(path, data)
}

// manifests are the objects of a file by kind, in the order of the file.
type manifests struct {
	file    string
	servers []manifest[*v1alpha1.VirtualMCPServer]
	groups  []manifest[*v1alpha1.MCPGroup]
	backend []manifest[*v1alpha1.MCPBackend]
	auth    []manifest[*v1alpha1.MCPExternalAuthConfig]
	secrets []manifest[*secretManifest]

	seen     map[string]int // line of each kind/name
	errors   ManifestErrors
	warnings ManifestErrors
}

// manifest is an object and where it stands.
type manifest[T any] struct {
	object T
	document
}

func (m *manifests) fail(line int, format string, args ...any) {
	m.errors = append(m.errors, ManifestError{File: m.file, Line: line, Text: fmt.Sprintf(format, args...)})
}

func (m *manifests) failFields(d document, errs field.ErrorList) {
	for _, err := range errs {
		m.fail(d.line(err.Field), "%s", err)
	}
}

func (m *manifests) warn(line int, format string, args ...any) {
	m.warnings = append(m.warnings, ManifestError{File: m.file, Line: line, Text: fmt.Sprintf(format, args...)})
}

func parseManifests(file string, data []byte) (*Standalone, error) {
	m := &manifests{file: file, seen: map[string]int{}}
	m.read(data)
	standalone := m.assemble()
	if len(m.errors) > 0 {
		return nil, m.errors.sorted()
	}
	for _, w := range m.warnings.sorted() {
		standalone.Warnings = append(standalone.Warnings, w.Error())
	}
	return standalone, nil
}

// read decodes all documents. A mistake in one of them does not hide those in others, unless it is one of syntax.
func (m *manifests) read(data []byte) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var node yaml.Node
		err := decoder.Decode(&node)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			line, text := syntaxError(err)
			m.fail(line, "not YAML: %s", text)
			return
		}
		root := resolve(node.Content[0])
		if isNull(root) {
			continue // nothing between two separators but comments
		}
		if node := endless(root); node != nil {
			m.fail(node.Line, "%s makes the document endless, or longer than %d values", describe(node), maxNodes)
			continue
		}
		m.add(document{root: root})
	}
}

// add decodes one document.
func (m *manifests) add(d document) {
	if d.root.Kind != yaml.MappingNode {
		m.fail(d.root.Line, "a document must be an object with apiVersion and kind, found %s", describe(d.root))
		return
	}
	apiVersion, kind := d.scalar("apiVersion"), d.scalar("kind")
	if apiVersion == "" || kind == "" {
		m.fail(d.root.Line, "a document must have apiVersion and kind")
		return
	}
	if apiVersion == v1alpha1.GroupVersion.String() {
		switch kind {
		case "VirtualMCPServer":
			m.servers = decodeInto(m, d, m.servers, new(v1alpha1.VirtualMCPServer))
			return
		case "MCPGroup":
			m.groups = decodeInto(m, d, m.groups, new(v1alpha1.MCPGroup))
			return
		case "MCPBackend":
			m.backend = decodeInto(m, d, m.backend, new(v1alpha1.MCPBackend))
			return
		case "MCPExternalAuthConfig":
			m.auth = decodeInto(m, d, m.auth, new(v1alpha1.MCPExternalAuthConfig))
			return
		}
	}
	if apiVersion == "v1" && kind == "Secret" {
		m.secrets = decodeInto(m, d, m.secrets, new(secretManifest))
		return
	}
	m.fail(d.line("kind"), "kind: %s of %s cannot be served: vmcp serve -f reads VirtualMCPServer, MCPGroup, MCPBackend and "+
		"MCPExternalAuthConfig of %s, and Secret of v1; keep other objects in another file", kind, apiVersion, v1alpha1.GroupVersion)
}

// validated is an object that a file may have. Validate checks what the API server checks when an object is created.
type validated interface {
	metav1.Object
	runtime.Object
	Validate() field.ErrorList
}

// decodeInto decodes a document strictly, validates the object and appends it to the others of its kind. An object that is
// not valid is appended as well, so that nobody is told that it does not exist.
func decodeInto[T validated](m *manifests, d document, list []manifest[T], object T) []manifest[T] {
	if errs := d.decode(object); len(errs) > 0 {
		m.errors = append(m.errors, located(m.file, errs)...)
		object.SetName(d.scalar("metadata", "name"))
		return append(list, manifest[T]{object: object, document: d.markInvalid()})
	}
	if errs := object.Validate(); len(errs) > 0 {
		m.failFields(d, errs)
		d = d.markInvalid()
	}
	id := object.GetObjectKind().GroupVersionKind().Kind + " " + object.GetName()
	if first, clash := m.seen[id]; clash {
		m.fail(d.line("metadata.name"), "metadata.name: Duplicate value: %q: the %s of this name is at line %d already; remove or rename one",
			object.GetName(), object.GetObjectKind().GroupVersionKind().Kind, first)
		return list
	}
	m.seen[id] = d.line("metadata.name")
	return append(list, manifest[T]{object: object, document: d})
}

// assemble puts the objects together.
func (m *manifests) assemble() *Standalone {
	m.checkNamespaces()
	m.warnUnused()
	server, ok := m.onlyServer()
	if !ok {
		return nil
	}
	s := &Standalone{Server: server.object}
	group := server.object.Spec.GroupRef.Name
	for _, g := range m.groups {
		if g.object.Name == group {
			s.Group = g.object
			if g.object.Spec.Discovery.Any() {
				m.warn(g.line("spec.discovery"), "spec.discovery has no effect: there is no cluster in which something could be found")
			}
		}
	}
	if s.Group == nil && group != "" {
		m.fail(server.line("spec.groupRef.name"), "spec.groupRef.name: Not found: %q: %s", group, m.knownGroups())
	}
	var documents []document
	for _, b := range m.backend {
		switch {
		case b.invalid:
		case b.object.Spec.GroupRef.Name != group:
			m.warn(b.line("spec.groupRef.name"), "MCPBackend %q is not served: it belongs to MCPGroup %q, and VirtualMCPServer %q serves %q",
				b.object.Name, b.object.Spec.GroupRef.Name, server.object.Name, group)
		case b.object.Source() != v1alpha1.BackendSourceRemote:
			path := "spec." + string(b.object.Source())
			m.fail(b.line(path), "%s: Forbidden: needs a cluster: only remote backends can be served by vmcp serve -f", path)
		default:
			s.Backends, documents = append(s.Backends, b.object), append(documents, b.document)
		}
	}
	m.resolveAuth(s, server.document, documents)
	if len(s.Backends) == 0 {
		m.warn(server.line("spec.groupRef.name"), "MCPGroup %q has no backends: VirtualMCPServer %q serves nothing", group, server.object.Name)
	}
	return s
}

// onlyServer is the one VirtualMCPServer of the file.
func (m *manifests) onlyServer() (manifest[*v1alpha1.VirtualMCPServer], bool) {
	switch len(m.servers) {
	case 1:
		return m.servers[0], !m.servers[0].invalid
	case 0:
		if len(m.errors) == 0 {
			m.fail(0, "no VirtualMCPServer found: add one that names the MCPGroup to serve")
		}
	default:
		found := make([]string, len(m.servers))
		for i, s := range m.servers {
			found[i] = fmt.Sprintf("%q (line %d)", s.object.Name, s.line("metadata.name"))
		}
		m.fail(m.servers[1].line("kind"), "kind: exactly one VirtualMCPServer can be served, found %s; put each into a file of its own",
			strings.Join(found, ", "))
	}
	return manifest[*v1alpha1.VirtualMCPServer]{}, false
}

func (m *manifests) knownGroups() string {
	if len(m.groups) == 0 {
		return "the file defines no MCPGroup; add it"
	}
	names := make([]string, len(m.groups))
	for i, g := range m.groups {
		names[i] = fmt.Sprintf("%q", g.object.Name)
	}
	return "the file defines " + strings.Join(names, ", ")
}

// checkNamespaces: a gateway serves backends of its own namespace only. An object without a namespace belongs to the one
// that the others name, as it does with kubectl apply -n.
func (m *manifests) checkNamespaces() {
	var first string
	var line int
	check := func(d document, namespace string) {
		switch {
		case namespace == "" || namespace == first:
		case first == "":
			first, line = namespace, d.line("metadata.namespace")
		default:
			m.fail(d.line("metadata.namespace"), "metadata.namespace: Invalid value: %q: all objects must be in one namespace, and line %d names %q",
				namespace, line, first)
		}
	}
	for _, o := range m.servers {
		check(o.document, o.object.Namespace)
	}
	for _, o := range m.groups {
		check(o.document, o.object.Namespace)
	}
	for _, o := range m.backend {
		check(o.document, o.object.Namespace)
	}
	for _, o := range m.auth {
		check(o.document, o.object.Namespace)
	}
	for _, o := range m.secrets {
		check(o.document, o.object.Namespace)
	}
}
