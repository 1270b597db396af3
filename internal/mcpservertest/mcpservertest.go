// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package mcpservertest stands in for the project that MCPServers of mcp.x-k8s.io belong to: it has their CRD, as far as anybody here looks
// at it, and objects.
package mcpservertest

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// CRD is the definition with both versions that are served today; the newer one is stored.
func CRD() *apiextensionsv1.CustomResourceDefinition {
	keepAll := true
	version := func(name string, storage bool) apiextensionsv1.CustomResourceDefinitionVersion {
		return apiextensionsv1.CustomResourceDefinitionVersion{
			Name: name, Served: true, Storage: storage,
			Schema: &apiextensionsv1.CustomResourceValidation{
				OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &keepAll},
			},
		}
	}
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{
			Name: v1alpha1.MCPServerResource + "." + v1alpha1.MCPServerGroup,
			// The API server wants it of every group below x-k8s.io.
			Annotations: map[string]string{apiextensionsv1.KubeAPIApprovedAnnotation: "unapproved, a stand-in for tests"},
		},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: v1alpha1.MCPServerGroup,
			Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{
				Kind: v1alpha1.KindMCPServer, ListKind: v1alpha1.KindMCPServer + "List", Plural: v1alpha1.MCPServerResource, Singular: "mcpserver",
			},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{version("v1alpha1", false), version("v1beta1", true)},
		},
	}
}

// Break makes a definition whose objects are stored in the older version from now on, and cannot be converted to the newer one, as while
// its webhook is away.
func Break(crd *apiextensionsv1.CustomResourceDefinition) {
	for i := range crd.Spec.Versions {
		crd.Spec.Versions[i].Storage = !crd.Spec.Versions[i].Storage
	}
	nowhere := "https://127.0.0.1:1/convert"
	crd.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{
		Strategy: apiextensionsv1.WebhookConverter,
		Webhook: &apiextensionsv1.WebhookConversion{
			ClientConfig:             &apiextensionsv1.WebhookClientConfig{URL: &nowhere},
			ConversionReviewVersions: []string{"v1"},
		},
	}
}

// List is an empty list of MCPServers.
func List() *unstructured.UnstructuredList {
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion(v1alpha1.MCPServerGroup + "/v1beta1")
	list.SetKind(v1alpha1.KindMCPServer + "List")
	return list
}

// New is an MCPServer that joins a group.
func New(namespace, name, group string, port int64) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.MCPServerGroup + "/v1beta1", "kind": v1alpha1.KindMCPServer,
		"spec": map[string]any{
			"source": map[string]any{"type": "ContainerImage", "containerImage": map[string]any{"ref": "ghcr.io/example/" + name + ":v1"}},
			"config": map[string]any{"port": port},
		},
	}}
	o.SetNamespace(namespace)
	o.SetName(name)
	o.SetLabels(map[string]string{v1alpha1.GroupLabel: group})
	return o
}
