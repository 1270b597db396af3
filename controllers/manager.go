// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controllers provisions what VirtualMCPServers and MCPBackends ask for, and reports on it. It never speaks MCP and
// never looks at the health of a backend: that is the runtime's.
package controllers

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	autoscalingv2ac "k8s.io/client-go/applyconfigurations/autoscaling/v2"
	coordinationv1ac "k8s.io/client-go/applyconfigurations/coordination/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	rbacv1ac "k8s.io/client-go/applyconfigurations/rbac/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// NewScheme knows the kinds that the operator reads and writes.
func NewScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering the kinds of Kubernetes: %w", err)
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering the kinds of %s: %w", v1alpha1.GroupVersion, err)
	}
	return scheme, nil
}

// ManagerOptions are the options of the manager that production and tests share, for the namespaces given or for all.
func ManagerOptions(namespaces []string) (ctrl.Options, error) {
	scheme, err := NewScheme()
	if err != nil {
		return ctrl.Options{}, err
	}
	return ctrl.Options{Scheme: scheme, Cache: CacheOptions(namespaces)}, nil
}

// CacheConfig is config for the manager itself: its watches fill the cache that all controllers read from.
func CacheConfig(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.UserAgent = UserAgentPrefix + "cache"
	return config
}

// ParseNamespaces splits a WATCH_NAMESPACE value. No name at all means every namespace.
func ParseNamespaces(value string) []string {
	var namespaces []string
	for name := range strings.SplitSeq(value, ",") {
		if name = strings.TrimSpace(name); name != "" {
			namespaces = append(namespaces, name)
		}
	}
	return namespaces
}

// CacheOptions say what the operator keeps in memory, of the namespaces given or of all.
//
// What it provisions is kept by label, with a fingerprint in place of what it is compared by (see fingerprinted). ServiceAccounts and
// Services are kept all, because MCPBackends may name any of them and their coming, going and changing has to wake the controller; of
// those that are not ours only what is asked for stays (see trimForeign), a few hundred bytes each. Nothing else that belongs to others is kept, no Secret and no Pod, and a read of a
// kind that is not listed here fails instead of filling the memory.
func CacheOptions(namespaces []string) cache.Options {
	byLabel := labels.SelectorFromSet(labels.Set{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue})
	options := watched(namespaces)
	options.ReaderFailOnMissingInformer = true
	options.ByObject = map[client.Object]cache.ByObject{
		&rbacv1.Role{}: {Label: byLabel, Transform: fingerprinted(rbacv1ac.ExtractRole, trimNothing)},
		&rbacv1.RoleBinding{}: {
			Label: byLabel, Transform: fingerprinted(rbacv1ac.ExtractRoleBinding, trimRoleBinding),
		},
		&corev1.ConfigMap{}: {
			Label: byLabel, Transform: fingerprinted(corev1ac.ExtractConfigMap, trimConfigMap),
		},
		&coordinationv1.Lease{}: {
			Label: byLabel, Transform: fingerprinted(coordinationv1ac.ExtractLease, trimNothing),
		},
		&appsv1.Deployment{}: {
			Label: byLabel, Transform: fingerprinted(appsv1ac.ExtractDeployment, trimDeployment),
		},
		&autoscalingv2.HorizontalPodAutoscaler{}: {
			Label: byLabel, Transform: fingerprinted(autoscalingv2ac.ExtractHorizontalPodAutoscaler, trimAutoscaler),
		},

		&corev1.ServiceAccount{}: {Transform: ours(fingerprinted(corev1ac.ExtractServiceAccount, trimNothing), trimForeign)},
		&corev1.Service{}:        {Transform: ours(fingerprinted(corev1ac.ExtractService, trimNothing), trimForeign)},
	}
	return options
}

// watched are the options of a cache of the namespaces given, or of all.
func watched(namespaces []string) cache.Options {
	var options cache.Options
	if len(namespaces) > 0 {
		options.DefaultNamespaces = map[string]cache.Config{}
		for _, name := range namespaces {
			options.DefaultNamespaces[name] = cache.Config{}
		}
	}
	return options
}

// trimForeign drops everything that nobody asks of a ServiceAccount or Service that the operator did not provision.
func trimForeign(o any) (any, error) {
	m, err := meta.Accessor(o)
	if err != nil {
		return o, nil //nolint:nilerr // A tombstone of the informer has no metadata and nothing to trim.
	}
	m.SetManagedFields(nil)
	m.SetAnnotations(memberAnnotations(m))
	switch o := o.(type) {
	case *corev1.ServiceAccount:
		o.Secrets, o.ImagePullSecrets = nil, nil
	case *corev1.Service:
		o.Spec = corev1.ServiceSpec{Type: o.Spec.Type, Ports: o.Spec.Ports}
		o.Status = corev1.ServiceStatus{}
	}
	return o, nil
}

// memberAnnotations are the annotations by which a labelled Service says where its MCP endpoint is.
func memberAnnotations(m metav1.Object) map[string]string {
	if m.GetLabels()[v1alpha1.GroupLabel] == "" {
		return nil
	}
	kept := map[string]string{}
	for _, key := range []string{v1alpha1.PortAnnotation, v1alpha1.PathAnnotation, v1alpha1.TransportAnnotation} {
		if value, there := m.GetAnnotations()[key]; there {
			kept[key] = value
		}
	}
	return kept
}

// Indexes of the cache.
const (
	// indexGroupRef is the MCPGroup that a VirtualMCPServer or an MCPBackend names.
	indexGroupRef = "spec.groupRef.name"
	// indexOwnAuthConfig is the MCPExternalAuthConfig that an MCPBackend names itself.
	indexOwnAuthConfig = "spec.externalAuthConfigRef.name"
	// indexAuthConfig are the MCPExternalAuthConfigs that a VirtualMCPServer names.
	indexAuthConfig = "spec.outgoingAuth.externalAuthConfigRef.name"
	// indexSource is who finds the backends of a VirtualMCPServer.
	indexSource = "spec.outgoingAuth.source"
	// indexService is the Service that an MCPBackend names.
	indexService = "spec.service.name"
	// indexServiceAccount is the ServiceAccount that the workload of an MCPBackend names.
	indexServiceAccount = "spec.workload.serviceAccountName"
)

// SetupIndexes registers what the controllers look objects up by. It must run before the cache starts.
func SetupIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	for _, index := range []struct {
		object client.Object
		field  string
		values func(client.Object) []string
	}{
		{&v1alpha1.VirtualMCPServer{}, indexAuthConfig, authConfigsOf},
		{&v1alpha1.VirtualMCPServer{}, indexSource, one(sourceOf)},
		{&v1alpha1.VirtualMCPServer{}, indexGroupRef, one(groupRefOf)},
		{&v1alpha1.MCPBackend{}, indexGroupRef, one(groupRefOf)},
		{&v1alpha1.MCPBackend{}, indexService, one(serviceOf)},
		{&v1alpha1.MCPBackend{}, indexOwnAuthConfig, one(ownAuthConfigOf)},
		{&v1alpha1.MCPBackend{}, indexServiceAccount, one(serviceAccountOf)},
	} {
		if err := indexer.IndexField(ctx, index.object, index.field, index.values); err != nil {
			return fmt.Errorf("indexing %T by %s: %w", index.object, index.field, err)
		}
	}
	return nil
}

// one is an index of at most one value.
func one(value func(client.Object) string) func(client.Object) []string {
	return func(o client.Object) []string {
		if v := value(o); v != "" {
			return []string{v}
		}
		return nil
	}
}

func authConfigsOf(o client.Object) []string {
	if s, ok := o.(*v1alpha1.VirtualMCPServer); ok {
		return s.Spec.OutgoingAuth.ConfigNames()
	}
	return nil
}

func sourceOf(o client.Object) string {
	if s, ok := o.(*v1alpha1.VirtualMCPServer); ok {
		return string(s.Source())
	}
	return ""
}

func groupRefOf(o client.Object) string {
	switch o := o.(type) {
	case *v1alpha1.VirtualMCPServer:
		return o.Spec.GroupRef.Name
	case *v1alpha1.MCPBackend:
		return o.Spec.GroupRef.Name
	case *corev1.Service, *unstructured.Unstructured:
		return o.GetLabels()[v1alpha1.GroupLabel]
	default:
		return ""
	}
}

func ownAuthConfigOf(o client.Object) string {
	if b, ok := o.(*v1alpha1.MCPBackend); ok && b.Spec.ExternalAuthConfigRef != nil {
		return b.Spec.ExternalAuthConfigRef.Name
	}
	return ""
}

func serviceOf(o client.Object) string {
	if b, ok := o.(*v1alpha1.MCPBackend); ok && b.Spec.Service != nil {
		return b.Spec.Service.Name
	}
	return ""
}

func serviceAccountOf(o client.Object) string {
	if b, ok := o.(*v1alpha1.MCPBackend); ok && b.Spec.Workload != nil {
		return b.Spec.Workload.ServiceAccountName
	}
	return ""
}
