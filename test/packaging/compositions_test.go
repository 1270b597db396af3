// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// notApplied are compositions for operator-sdk, with kinds that no API server has; the validators of "make bundle" check them.
var notApplied = map[string]bool{"config/manifests": true, "config/scorecard": true}

// onlyOn names the one composition that a component is for, of those that are for one.
var onlyOn = map[string]string{"prometheus": "default", "prometheus-namespaced": "namespaced"}

// kustomizations are the folders of config/ and test/ that hold a kustomization of the kind, by their path from the root.
func kustomizations(g *WithT, kind string) []string {
	var folders []string
	for _, top := range []string{"config", "test"} {
		g.Expect(filepath.WalkDir(filepath.Join(root, top), func(file string, entry fs.DirEntry, err error) error {
			if err != nil || entry.Name() != "kustomization.yaml" {
				return err
			}
			content, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			k := types.Kustomization{}
			if err := yaml.Unmarshal(content, &k); err != nil {
				return err
			}
			folder, err := filepath.Rel(root, filepath.Dir(file))
			if k.Kind == kind && !notApplied[filepath.ToSlash(folder)] {
				folders = append(folders, filepath.ToSlash(folder))
			}
			return err
		})).To(Succeed())
	}
	g.Expect(folders).NotTo(BeEmpty(), kind)
	return folders
}

// inMemory is a copy of config/ and test/, beside which a test puts the overlays of a user.
func inMemory(g *WithT) filesys.FileSystem {
	files := filesys.MakeFsInMemory()
	for _, top := range []string{"config", "test"} {
		g.Expect(filepath.WalkDir(filepath.Join(root, top), func(file string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(file) == ".go" {
				return err
			}
			content, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			inside, err := filepath.Rel(root, file)
			if err != nil {
				return err
			}
			return files.WriteFile("/"+filepath.ToSlash(inside), content)
		})).To(Succeed())
	}
	return files
}

func render(g *WithT, files filesys.FileSystem, folder string) []*unstructured.Unstructured {
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, folder)
	g.Expect(err).NotTo(HaveOccurred())
	var objects []*unstructured.Unstructured
	for _, r := range rendered.Resources() {
		data, err := r.MarshalJSON()
		g.Expect(err).NotTo(HaveOccurred())
		o := &unstructured.Unstructured{}
		g.Expect(o.UnmarshalJSON(data)).To(Succeed())
		objects = append(objects, o)
	}
	return objects
}

// expectAccepted asks the API server, as "kubectl apply --server-side --dry-run=server" does, whether it would take the objects.
func expectAccepted(t *testing.T, g *WithT, objects []*unstructured.Unstructured) {
	t.Helper()
	g.Expect(objects).NotTo(BeEmpty())
	for _, o := range objects {
		if namespace := o.GetNamespace(); namespace != "" {
			// What a dry run creates is not there for what comes after it.
			err := api.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
			g.Expect(client.IgnoreAlreadyExists(err)).To(Succeed())
		} else if namespaced, err := api.IsObjectNamespaced(o); err == nil && namespaced {
			o.SetNamespace(metav1.NamespaceDefault)
		} else {
			g.Expect(client.IgnoreNotFound(err)).To(Succeed(), o.GetKind())
		}
		err := api.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(o), client.DryRunAll, client.ForceOwnership, client.FieldOwner("kubectl"))
		g.Expect(err).NotTo(HaveOccurred(), "%s %s: %s", o.GetKind(), o.GetName(), apierrors.ReasonForError(err))
	}
}

// The API server takes every composition, and every component on every installation that it is for: alone, and with all the others.
func TestCompositionsAreAccepted(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	files := inMemory(g)
	compositions := map[string]string{}
	for _, folder := range kustomizations(g, types.KustomizationKind) {
		compositions[folder] = "/" + folder
	}
	add := func(name, base string, components ...string) {
		folder := "/config/composition-" + name
		overlay := "resources: [../" + base + "]\ncomponents: [../components/" + strings.Join(components, ", ../components/") + "]\n"
		g.Expect(files.WriteFile(path.Join(folder, "kustomization.yaml"), []byte(overlay))).To(Succeed())
		compositions["config/"+base+" with "+strings.Join(components, ", ")] = folder
	}
	for _, base := range []string{"default", "namespaced"} {
		var all []string
		for _, folder := range kustomizations(g, types.ComponentKind) {
			component := path.Base(folder)
			if only := onlyOn[component]; only != "" && only != base {
				continue
			}
			all = append(all, component)
			add(base+"-"+component, base, component)
		}
		add(base+"-all", base, all...)
	}
	for name, folder := range compositions {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			expectAccepted(t, g, render(g, files, folder))
		})
	}
}

// Nothing that an installation for one namespace consists of is cluster-wide, whatever components it has, and no object that a component
// adds is elsewhere.
func TestComponentsFollowTheNamespace(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	files := inMemory(g)
	overlay := "namespace: team-a\nresources: [../namespaced]\ncomponents: " +
		"[../components/prometheus-namespaced, ../components/network-policy, ../components/high-availability, ../components/images]\n"
	g.Expect(files.WriteFile("/config/team-a/kustomization.yaml", []byte(overlay))).To(Succeed())
	kinds := map[string]bool{}
	for _, o := range render(g, files, "/config/team-a") {
		kinds[o.GetKind()] = true
		g.Expect(o.GetNamespace()).To(Equal("team-a"), "%s %s", o.GetKind(), o.GetName())
		if o.GetKind() == "PodMonitor" {
			g.Expect(o.Object["spec"]).NotTo(HaveKey("namespaceSelector"))
		}
		if o.GetKind() != "Deployment" {
			continue
		}
		replicas, _, err := unstructured.NestedInt64(o.Object, "spec", "replicas")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(replicas).To(BeEquivalentTo(2))
		containers, _, err := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(containers).To(ConsistOf(And(
			HaveKeyWithValue("image", HavePrefix("registry.example.com/")),
			HaveKeyWithValue("env", ContainElement(HaveKeyWithValue("value", HavePrefix("registry.example.com/")))),
		)))
	}
	for _, kind := range []string{"ServiceMonitor", "PodMonitor", "PrometheusRule", "NetworkPolicy", "PodDisruptionBudget", "Deployment"} {
		g.Expect(kinds).To(HaveKey(kind))
	}
}
