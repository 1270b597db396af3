// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package operand renders what the operator provisions for a VirtualMCPServer: a Kustomize base and components that are embedded here, and
// one overlay per VirtualMCPServer, built in memory.
package operand

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"strings"

	appsv1 "k8s.io/client-go/applyconfigurations/apps/v1"
	autoscalingv2 "k8s.io/client-go/applyconfigurations/autoscaling/v2"
	coordinationv1 "k8s.io/client-go/applyconfigurations/coordination/v1"
	corev1 "k8s.io/client-go/applyconfigurations/core/v1"
	rbacv1 "k8s.io/client-go/applyconfigurations/rbac/v1"

	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

//go:embed base components
var embedded embed.FS

// Folders of the in-memory file system that krusty reads.
const (
	baseDir       = "base"
	componentsDir = "components"
	overlayDir    = "overlay"
)

// Operand is everything that is provisioned for one VirtualMCPServer, in the form in which it is applied. Treat it as
// immutable: it is shared between reconciliations.
type Operand struct {
	ServiceAccount *corev1.ServiceAccountApplyConfiguration
	Role           *rbacv1.RoleApplyConfiguration
	RoleBinding    *rbacv1.RoleBindingApplyConfiguration
	ConfigMap      *corev1.ConfigMapApplyConfiguration
	Lease          *coordinationv1.LeaseApplyConfiguration
	Deployment     *appsv1.DeploymentApplyConfiguration
	Service        *corev1.ServiceApplyConfiguration
	// PeersService is the headless Service by which the pods find each other. Patches do not reach it.
	PeersService *corev1.ServiceApplyConfiguration
	// HorizontalPodAutoscaler is nil if there is to be none.
	HorizontalPodAutoscaler *autoscalingv2.HorizontalPodAutoscalerApplyConfiguration
}

// Render builds the objects for in. It is a pure function: equal inputs give equal objects. It reads nothing but the embedded
// base. An error about one of the patches begins with its place in the spec, for example spec.patches[2].
func Render(in Input) (*Operand, error) {
	overlay, err := newOverlay(in)
	if err != nil {
		return nil, err
	}
	kustomization, err := yaml.Marshal(overlay)
	if err != nil {
		return nil, fmt.Errorf("encoding the kustomization: %w", err)
	}
	files, err := newFileSystem(kustomization)
	if err != nil {
		return nil, err
	}
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, overlayDir)
	if err != nil {
		return nil, fmt.Errorf("running kustomize: %w", err)
	}
	if err := annotateService(resources, in.Service.Annotations); err != nil {
		return nil, err
	}
	rendered, err := decode(resources)
	if err != nil || len(in.Patches) == 0 {
		return rendered, err
	}
	return applyPatches(rendered, resources, in.Patches)
}

// newFileSystem holds the embedded base and components, and the overlay; krusty sees nothing else.
func newFileSystem(overlay []byte) (filesys.FileSystem, error) {
	files := filesys.MakeFsInMemory()
	err := fs.WalkDir(embedded, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := embedded.ReadFile(name)
		if err != nil {
			return err
		}
		return files.WriteFile(name, data)
	})
	if err == nil {
		err = files.WriteFile(path.Join(overlayDir, "kustomization.yaml"), overlay)
	}
	if err != nil {
		return nil, fmt.Errorf("preparing the base: %w", err)
	}
	return files, nil
}

// decode sorts rendered resources into an Operand: exactly one of each kind, and no field that its type does not have.
func decode(resources resmap.ResMap) (*Operand, error) {
	o := &Operand{}
	targets := o.byField()
	for _, r := range resources.Resources() {
		kind := fieldOf(r)
		target, ok := targets[kind]
		if !ok {
			return nil, fmt.Errorf("%s %s: not one object of a kind that a gateway consists of", kind, r.GetName())
		}
		delete(targets, kind)
		if err := decodeStrict(r, target); err != nil {
			return nil, fmt.Errorf("%s %s: %w", kind, r.GetName(), err)
		}
	}
	if targets[kindAutoscaler] != nil {
		o.HorizontalPodAutoscaler = nil // the only one that is optional
		delete(targets, kindAutoscaler)
	}
	var errs []error
	for kind := range targets {
		errs = append(errs, fmt.Errorf("no %s was rendered", kind))
	}
	return o, errors.Join(errs...)
}

// decodeStrict decodes r into an apply configuration and refuses fields that it does not have.
func decodeStrict(r *resource.Resource, target any) error {
	data, err := r.MarshalJSON()
	if err != nil {
		return fmt.Errorf("encoding: %w", err)
	}
	strict, err := kjson.UnmarshalStrict(data, target)
	return errors.Join(append(strict, err)...)
}

// fieldOf is the field of an Operand that a rendered resource belongs to: that of its kind, of which there is one.
func fieldOf(r *resource.Resource) string {
	if strings.HasPrefix(r.GetName(), placeholderPeers+"-") {
		return "PeersService"
	}
	return r.GetKind()
}

// byField allocates every object of o and returns pointers to them by field.
func (o *Operand) byField() map[string]any {
	kinds := map[string]any{}
	v := reflect.ValueOf(o).Elem()
	for i := range v.NumField() {
		v.Field(i).Set(reflect.New(v.Field(i).Type().Elem()))
		kinds[v.Type().Field(i).Name] = v.Field(i).Interface()
	}
	return kinds
}

// patchText encodes a patch that was built from types, so that no value of a user can become syntax.
func patchText(patch any) (string, error) {
	data, err := json.Marshal(patch)
	if err != nil {
		return "", fmt.Errorf("encoding a patch: %w", err)
	}
	return string(data), nil
}
