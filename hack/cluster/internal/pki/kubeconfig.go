// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"encoding/base64"
	"text/template"
)

// kubeconfig is what differs between kubeconfig files; the last three are PEM.
type kubeconfig struct {
	Context, User, Server string
	CA, Cert, Key         []byte
}

var kubeconfigTemplate = template.Must(template.New("kubeconfig").
	Funcs(template.FuncMap{"base64": base64.StdEncoding.EncodeToString}).
	Parse(`apiVersion: v1
kind: Config
current-context: {{.Context}}
contexts:
- name: {{.Context}}
  context:
    cluster: {{.Context}}
    user: {{.User}}
clusters:
- name: {{.Context}}
  cluster:
    server: {{.Server}}
    certificate-authority-data: {{base64 .CA}}
users:
- name: {{.User}}
  user:
    client-certificate-data: {{base64 .Cert}}
    client-key-data: {{base64 .Key}}
`))

func renderKubeconfig(k kubeconfig) ([]byte, error) {
	var out bytes.Buffer
	err := kubeconfigTemplate.Execute(&out, k)
	return out.Bytes(), err
}
