// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Kinds of the objects that describe backends, in the order in which they have a name that several of them share.
const (
	// KindMCPBackend is the kind of our own.
	KindMCPBackend = "MCPBackend"
	// KindMCPServer is the kind of mcp.x-k8s.io.
	KindMCPServer = "MCPServer"
	// KindService is the kind of Kubernetes' own Services.
	KindService = "Service"
)

// MCPServerGroup is the API group of MCPServers, MCPServerResource their resource. Where they listen is the same in v1alpha1 and v1beta1.
const (
	MCPServerGroup    = "mcp.x-k8s.io"
	MCPServerResource = "mcpservers"
)

// Member is a backend of a group, as the object that describes it says: intent only. It is a pure function of the labels, annotations and
// spec of that one object.
//
// +kubebuilder:object:generate=false
type Member struct {
	// Kind and Name are those of the object; no two members of a group share both.
	Kind, Name string
	// Source says where the backend is.
	Source BackendSource
	// URL is the MCP endpoint. It is empty if the member is refused because of it.
	URL string
	// Transport is the transport on the wire to URL, DeclaredTransport the one that the object names.
	Transport, DeclaredTransport Transport
	// AuthRef names the MCPExternalAuthConfig that the object itself names; nil for none.
	AuthRef *LocalReference
	// Reason and Message say, in the terms of status.discoveredBackends, why the backend must not be called; empty if it may be.
	Reason, Message string
}

// Compare is the one order of members: by name, then by kind.
func (m Member) Compare(o Member) int {
	return cmp.Or(cmp.Compare(m.Name, o.Name), cmp.Compare(m.Kind, o.Kind))
}

// ResolveAuth is the authentication that the gateway gives to the member. One whose name belongs to another member gets none.
func (m Member) ResolveAuth(auth OutgoingAuth, find func(name string) *MCPExternalAuthConfig) ResolvedAuth {
	if m.Reason == ReasonNameClash {
		return ResolvedAuth{}
	}
	return auth.Resolve(m.Name, m.AuthRef, find)
}

func (m Member) refuse(errs field.ErrorList) Member {
	if err := errs.ToAggregate(); err != nil {
		// An address that was not accepted is neither called nor reported: it may hold a credential.
		m.URL, m.Reason, m.Message = "", ReasonInvalidSpec, err.Error()
	}
	return m
}

// Member is the backend as a member of its group.
func (b *MCPBackend) Member() Member {
	return Member{
		Kind:              KindMCPBackend,
		Name:              b.Name,
		Source:            b.Source(),
		URL:               b.URL(),
		Transport:         b.WireTransport(),
		DeclaredTransport: cmp.Or(b.Spec.Transport, TransportStreamableHTTP),
		AuthRef:           b.Spec.ExternalAuthConfigRef,
	}.refuse(b.Validate())
}

// mcpPortName is the name of the port that is taken of several when no annotation names one.
const mcpPortName = "mcp"

// pathPattern is the one of the paths in the CRDs.
var pathPattern = regexp.MustCompile(`^/[A-Za-z0-9/._~%!$&'()*+,;=:@-]*$`)

const maxPath = 512

// ServiceMember is a Service that joins a group by its label. It need hold no more than metadata, type and ports.
func ServiceMember(s *corev1.Service) Member {
	annotations := field.NewPath("metadata", "annotations")
	m := Member{
		Kind: KindService, Name: s.Name, Source: BackendSourceService,
		Transport: Transport(cmp.Or(s.Annotations[TransportAnnotation], string(TransportStreamableHTTP))),
	}
	m.DeclaredTransport = m.Transport
	var errs field.ErrorList
	if m.Transport != TransportStreamableHTTP && m.Transport != TransportSSE {
		errs = append(errs, field.NotSupported(annotations.Key(TransportAnnotation), m.Transport, []Transport{TransportStreamableHTTP, TransportSSE}))
		m.Transport, m.DeclaredTransport = TransportStreamableHTTP, TransportStreamableHTTP
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		errs = append(errs, field.Invalid(field.NewPath("spec", "type"), s.Spec.Type,
			"a Service of this type stands for any host, so it cannot join a group; describe the host with an MCPBackend"))
		return m.refuse(errs)
	}
	path := s.Annotations[PathAnnotation]
	errs = append(errs, validatePath(annotations.Key(PathAnnotation), path)...)
	port, err := servicePort(s.Spec.Ports, s.Annotations[PortAnnotation], annotations.Key(PortAnnotation))
	if err != nil {
		errs = append(errs, err)
	}
	m.URL = serviceURL(s.Name, s.Namespace, port, path)
	return m.refuse(errs)
}

func validatePath(at *field.Path, path string) field.ErrorList {
	if path == "" {
		return nil
	}
	errs := atMost(at, path, maxPath)
	if !pathPattern.MatchString(path) {
		errs = append(errs, field.Invalid(at, path, "must be an absolute path without a query"))
	}
	return errs
}

// servicePort is the port that is named, by name or number, or the one that goes without saying.
func servicePort(ports []corev1.ServicePort, named string, at *field.Path) (int32, *field.Error) {
	ports = slices.DeleteFunc(slices.Clone(ports), func(p corev1.ServicePort) bool { return cmp.Or(p.Protocol, corev1.ProtocolTCP) != corev1.ProtocolTCP })
	wanted := cmp.Or(named, mcpPortName)
	for _, p := range ports {
		if p.Name == wanted || strconv.Itoa(int(p.Port)) == wanted {
			return p.Port, nil
		}
	}
	switch {
	case named != "":
		return 0, field.Invalid(at, named, "the Service has no TCP port of this name or number")
	case len(ports) == 1:
		return ports[0].Port, nil
	default:
		return 0, field.Required(at, fmt.Sprintf("the Service has %d TCP ports; name one of them", len(ports)))
	}
}

// MCPServerMember is an MCPServer of mcp.x-k8s.io that joins a group by its label. Its Service has its name, and the port and path of
// spec.config; spec.transport.tls.enabled says that it speaks TLS.
func MCPServerMember(o *unstructured.Unstructured) Member {
	m := Member{
		Kind: KindMCPServer, Name: o.GetName(), Source: BackendSourceService,
		Transport: TransportStreamableHTTP, DeclaredTransport: TransportStreamableHTTP,
	}
	var errs field.ErrorList
	for _, text := range validation.IsDNS1035Label(m.Name) {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), m.Name, "no Service can have this name: "+text))
	}
	config := field.NewPath("spec", "config")
	port, _, err := unstructured.NestedInt64(o.Object, "spec", "config", "port")
	if err != nil || port < 1 || port > 65535 {
		errs = append(errs, field.Invalid(config.Child("port"), port, "must be between 1 and 65535"))
		port = 0
	}
	path, _, err := unstructured.NestedString(o.Object, "spec", "config", "path")
	if err != nil {
		errs = append(errs, field.Invalid(config.Child("path"), "", "must be a string"))
	}
	errs = append(errs, validatePath(config.Child("path"), path)...)
	scheme, defaultPort := "http", int32(80)
	if tls, _, err := unstructured.NestedBool(o.Object, "spec", "transport", "tls", "enabled"); err == nil && tls {
		scheme, defaultPort = "https", 443
	}
	m.URL = urlOfService(scheme, defaultPort, m.Name, o.GetNamespace(), int32(port), path)
	return m.refuse(errs)
}

// precedence says which kind has a name that several members share.
var precedence = []string{KindMCPBackend, KindMCPServer, KindService}

// Members puts members into their one order and refuses those whose name another one has: credentials, prefixes, filters and priorities
// are given by name, and must not reach an object that somebody else called the same.
func Members(members ...Member) []Member {
	slices.SortFunc(members, Member.Compare)
	owners := map[string]string{}
	for _, m := range members {
		if owner, taken := owners[m.Name]; !taken || slices.Index(precedence, m.Kind) < slices.Index(precedence, owner) {
			owners[m.Name] = m.Kind
		}
	}
	for i, m := range members {
		if owner := owners[m.Name]; owner != m.Kind {
			members[i].AuthRef = nil
			members[i].Reason = ReasonNameClash
			members[i].Message = fmt.Sprintf("the group has %s %q as well, whose name comes first; give one of them another name", owner, m.Name)
		}
	}
	return members
}

// Joins says whether an object other than an MCPBackend is labelled to join the group. What the operator provisioned is labelled for
// other purposes.
func Joins(o metav1.Object, group string) bool {
	labels := o.GetLabels()
	return group != "" && labels[GroupLabel] == group && labels[ManagedByLabel] != ManagedByValue
}
