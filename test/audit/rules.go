// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"fmt"
	"slices"
	"strings"
)

// Rule says what is wrong with a request, or "".
type Rule func(*Event) string

// virtualMCPServerController is the user agent of the controller of VirtualMCPServers.
const virtualMCPServerController = "vmcp-operator/virtualmcpserver"

// SecretsAreNamed is broken by whoever lists or watches Secrets without naming one: there is a moment at which they know all of a
// namespace. The cluster itself is not meant: its API server and controllers, and the nodes, which are told of the Secrets of their pods.
func SecretsAreNamed(e *Event) string {
	if e.ObjectRef.Resource != "secrets" || e.ObjectRef.APIGroup != "" || !e.Enumerates() || ofTheCluster(e.User.Username) {
		return ""
	}
	return e.describe() + ": all Secrets"
}

// ofTheCluster says whether a user is part of Kubernetes.
func ofTheCluster(user string) bool {
	return user == "system:apiserver" || user == "system:kube-controller-manager" ||
		strings.HasPrefix(user, "system:node:") || strings.HasPrefix(user, "system:serviceaccount:kube-system:")
}

// ControllerLooksAtNoBackend is broken by the controller of VirtualMCPServers when it asks for a backend, an auth config or a Secret: in
// dynamic mode they are the runtime's business.
func ControllerLooksAtNoBackend(e *Event) string {
	if e.Agent() != virtualMCPServerController || !slices.Contains([]string{"mcpbackends", "mcpexternalauthconfigs", "secrets"}, e.ObjectRef.Resource) {
		return ""
	}
	return e.describe() + ": not its business"
}

func (e *Event) describe() string {
	text := fmt.Sprintf("%s (%s): %s %s", e.UserAgent, e.User.Username, e.Verb, e.Resource())
	if e.ObjectRef.Namespace != "" {
		text += " in " + e.ObjectRef.Namespace
	}
	if e.ObjectRef.Name != "" {
		text += " " + e.ObjectRef.Name
	}
	return text
}

// Findings are the requests that broke rules, and how many there were in all, by user agent, verb and resource.
type Findings struct {
	Broken []string
	Counts map[string]int
}

// Check holds all requests of a log against rules.
func Check(path string, rules ...Rule) (Findings, error) {
	f := Findings{Counts: map[string]int{}}
	err := Open(path).Next(func(e *Event) {
		f.Counts[e.Agent()+" "+e.Verb+" "+e.Resource()]++
		for _, broken := range rules {
			if text := broken(e); text != "" {
				f.Broken = append(f.Broken, text)
			}
		}
	})
	return f, err
}
