// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/operator-framework/api/pkg/apis/scorecard/v1alpha3"
	"github.com/operator-framework/api/pkg/operators/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	vmcpv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// expectErrors compares what a check found with what each finding has to say.
func expectErrors(t *testing.T, r *result, want ...string) {
	t.Helper()
	matched := len(r.errors) == len(want)
	for i := range min(len(want), len(r.errors)) {
		matched = matched && strings.Contains(r.errors[i], want[i])
	}
	if !matched {
		t.Errorf("found %q, want %q", r.errors, want)
	}
	if (len(r.errors) > 0) != (len(r.suggestions) > 0) {
		t.Errorf("%d errors come with %d suggestions", len(r.errors), len(r.suggestions))
	}
}

// checkedIn is the ClusterServiceVersion of the repository.
func checkedIn(t *testing.T) *v1alpha1.ClusterServiceVersion {
	t.Helper()
	csv := &v1alpha1.ClusterServiceVersion{}
	if err := readYAML(filepath.Join("..", "..", "bundle", "manifests", "vmcp-operator.clusterserviceversion.yaml"), csv); err != nil {
		t.Fatal(err)
	}
	return csv
}

func TestCheckCSV(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*v1alpha1.ClusterServiceVersion)
		want   []string
	}{
		"the one that is checked in": {change: func(*v1alpha1.ClusterServiceVersion) {}},
		"a wildcard": {
			change: func(csv *v1alpha1.ClusterServiceVersion) {
				rules := csv.Spec.InstallStrategy.StrategySpec.Permissions[0].Rules
				rules[0].Verbs = []string{"*"}
			},
			want: []string{"wildcard in verbs"},
		},
		"all subresources": {
			change: func(csv *v1alpha1.ClusterServiceVersion) {
				csv.Spec.InstallStrategy.StrategySpec.Permissions[0].Rules[0].Resources = []string{"*/status"}
			},
			want: []string{"wildcard in resources"},
		},
		"escalate": {
			change: func(csv *v1alpha1.ClusterServiceVersion) {
				csv.Spec.InstallStrategy.StrategySpec.Permissions[0].Rules[0].Verbs = []string{"get", "escalate"}
			},
			want: []string{"the verb escalate"},
		},
		"rights in the whole cluster": {
			change: func(csv *v1alpha1.ClusterServiceVersion) {
				csv.Spec.InstallStrategy.StrategySpec.ClusterPermissions = []v1alpha1.StrategyDeploymentPermissions{{
					ServiceAccountName: "vmcp-operator", Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, Resources: []string{"pods"}}},
				}}
			},
			want: []string{"1 clusterPermissions"},
		},
		"an image that is not related": {
			change: func(csv *v1alpha1.ClusterServiceVersion) {
				csv.Spec.InstallStrategy.StrategySpec.DeploymentSpecs[0].Spec.Template.Spec.Containers[0].Image = "registry/other:v1.0.0"
			},
			want: []string{"is not a related image: registry/other:v1.0.0"},
		},
		"an operator's image that catalogs show, and can change": {
			change: func(csv *v1alpha1.ClusterServiceVersion) {
				csv.Annotations["containerImage"] = "registry/vmcp-operator:latest"
			},
			want: []string{"image of annotation containerImage can change: registry/vmcp-operator:latest"},
		},
		"no operator's image for catalogs to show": {
			change: func(csv *v1alpha1.ClusterServiceVersion) { delete(csv.Annotations, "containerImage") },
			want:   []string{"image of annotation containerImage can change"},
		},
		"images of examples that can change": {
			change: func(csv *v1alpha1.ClusterServiceVersion) {
				csv.Annotations["alm-examples"] = `[{"spec": {"image": "example/good:v1.0.0"}},
					{"spec": {"workload": {"image": "example/files:v1"}}}, {"spec": {"patches": [{"image": "example/sidecar"}]}}]`
			},
			want: []string{"image of an example can change: example/files:v1", "image of an example can change: example/sidecar"},
		},
		"examples that are none": {
			change: func(csv *v1alpha1.ClusterServiceVersion) { csv.Annotations["alm-examples"] = "" },
			want:   []string{"annotation alm-examples cannot be read"},
		},
		"an install mode less": {
			change: func(csv *v1alpha1.ClusterServiceVersion) { csv.Spec.InstallModes[0].Supported = false },
			want:   []string{"install mode OwnNamespace is not supported"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			csv := checkedIn(t)
			c.change(csv)
			r := &result{}
			checkCSV(r, csv)
			expectErrors(t, r, c.want...)
		})
	}
}

func TestCheckCSVWantsImagesThatStay(t *testing.T) {
	t.Parallel()
	const canChange = "related image extra can change"
	for image, want := range map[string][]string{
		"registry:5000/extra":               {canChange},
		"registry:5000/extra:latest":        {canChange},
		"registry:5000/extra:v1":            {canChange},
		"registry:5000/extra:1":             {canChange},
		"registry:5000/extra:v1.2":          {canChange},
		"registry:5000/extra:dev2":          {canChange},
		"registry:5000/extra:latest-1.2.3":  {canChange},
		"registry:5000/extra:v1.2.3.4":      {canChange},
		"registry.1.2.3:5000/extra":         {canChange},
		"registry:5000/extra:v1.2.3":        nil,
		"registry:5000/extra:1.2.3":         nil,
		"registry:5000/extra:v1.2.3-rc.1":   nil,
		"registry/extra@sha256:abc":         nil,
		"registry:5000/extra:v1@sha256:abc": nil,
	} {
		t.Run(image, func(t *testing.T) {
			t.Parallel()
			csv := checkedIn(t)
			csv.Spec.RelatedImages = append(csv.Spec.RelatedImages, v1alpha1.RelatedImage{Name: "extra", Image: image})
			r := &result{}
			checkCSV(r, csv)
			expectErrors(t, r, want...)
		})
	}
}

// entries are the managed fields of a gateway that is as it should be.
func entries(t *testing.T) []metav1.ManagedFieldsEntry {
	t.Helper()
	var list []metav1.ManagedFieldsEntry
	for owner, paths := range owned("a") {
		list = append(list, entry(t, owner, paths...))
	}
	return list
}

func entry(t *testing.T, manager string, paths ...fieldpath.Path) metav1.ManagedFieldsEntry {
	t.Helper()
	data, err := fieldpath.NewSet(paths...).ToJSON()
	if err != nil {
		t.Fatal(err)
	}
	return metav1.ManagedFieldsEntry{
		Manager: manager, Operation: metav1.ManagedFieldsOperationApply, Subresource: "status", FieldsV1: metav1.NewFieldsV1(string(data)),
	}
}

func TestCheckOwnership(t *testing.T) {
	t.Parallel()
	phase := fieldpath.MakePathOrDie("status", "phase")
	for name, c := range map[string]struct {
		entries func(*testing.T) []metav1.ManagedFieldsEntry
		errors  int
		want    string
	}{
		"as it should be": {entries: entries},
		"somebody else owns a field, too": {
			entries: func(t *testing.T) []metav1.ManagedFieldsEntry {
				t.Helper()
				return append(entries(t), entry(t, "kubectl", phase))
			},
			errors: 1, want: ".status.phase belongs to vmcp-runtime, and is owned by kubectl and vmcp-runtime",
		},
		"the operator says the phase": {
			entries: func(t *testing.T) []metav1.ManagedFieldsEntry {
				t.Helper()
				return append(entries(t), entry(t, vmcpv1alpha1.OperatorFieldManager, phase))
			},
			errors: 1, want: "owned by vmcp-operator and vmcp-runtime",
		},
		"another manager has the runtime's part": {
			entries: func(t *testing.T) []metav1.ManagedFieldsEntry {
				t.Helper()
				list := entries(t)
				for i := range list {
					if list[i].Manager == vmcpv1alpha1.RuntimeFieldManager {
						list[i].Manager = "vmcp-broken"
					}
				}
				return list
			},
			errors: 14, want: "owned by vmcp-broken",
		},
		"nobody has written": {
			entries: func(*testing.T) []metav1.ManagedFieldsEntry { return nil }, errors: 23, want: "owned by nobody",
		},
		"by update": {
			entries: func(t *testing.T) []metav1.ManagedFieldsEntry {
				t.Helper()
				list := entries(t)
				list[0].Operation = metav1.ManagedFieldsOperationUpdate
				return list
			},
			errors: 1, want: "wrote the status by Update",
		},
		"what belongs to the spec is not looked at": {
			entries: func(t *testing.T) []metav1.ManagedFieldsEntry {
				t.Helper()
				spec := entry(t, "kubectl", fieldpath.MakePathOrDie("spec", "groupRef"))
				spec.Subresource = ""
				return append(entries(t), spec)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &result{}
			if err := checkOwnership(r, c.entries(t), "a"); err != nil {
				t.Fatal(err)
			}
			if len(r.errors) != c.errors || c.errors > 0 && !strings.Contains(strings.Join(r.errors, "\n"), c.want) {
				t.Errorf("found %d: %q\nwant %d, one of them %q", len(r.errors), r.errors, c.errors, c.want)
			}
		})
	}
}

func TestCheckPods(t *testing.T) {
	t.Parallel()
	restricted := func() corev1.Pod {
		return corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "p"},
			Spec: corev1.PodSpec{
				SecurityContext: &corev1.PodSecurityContext{
					RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
				},
				Containers: []corev1.Container{{Name: gatewayContainer, SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				}}},
			},
		}
	}
	root, writable, workload := restricted(), restricted(), restricted()
	root.Spec.SecurityContext.RunAsNonRoot = nil
	writable.Spec.Containers[0].SecurityContext.ReadOnlyRootFilesystem = nil
	workload.Spec.Containers[0].Name, workload.Spec.Containers[0].SecurityContext.ReadOnlyRootFilesystem = "mcp", nil
	for name, c := range map[string]struct {
		pod  corev1.Pod
		want []string
	}{
		"as it should be":                   {pod: restricted()},
		"a workload may write to its image": {pod: workload},
		"may be root":                       {pod: root, want: []string{"pod p is not restricted"}},
		"may write to its image":            {pod: writable, want: []string{"container vmcp of pod p may write"}},
		"without any restriction":           {pod: corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: gatewayContainer}}}}, want: []string{"not restricted", "may write"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &result{}
			if err := checkPods(r, []corev1.Pod{c.pod}); err != nil {
				t.Fatal(err)
			}
			expectErrors(t, r, c.want...)
		})
	}
}

func TestConclude(t *testing.T) {
	t.Parallel()
	failed := func() *result {
		r := &result{}
		r.fail("mend it", "it is broken")
		return r
	}
	for name, c := range map[string]struct {
		result      *result
		err         error
		state       v1alpha3.State
		errors      int
		suggestions int
	}{
		"nothing found":        {result: &result{}, state: v1alpha3.PassState},
		"something found":      {result: failed(), state: v1alpha3.FailState, errors: 1, suggestions: 1},
		"the test broke":       {result: &result{}, err: errors.New("no cluster"), state: v1alpha3.ErrorState, errors: 1},
		"waited in vain":       {result: &result{}, err: errors.Join(&waitError{what: "x", last: "y", suggestion: "look"}), state: v1alpha3.FailState, errors: 1, suggestions: 1},
		"both":                 {result: failed(), err: &waitError{suggestion: "look"}, state: v1alpha3.FailState, errors: 2, suggestions: 2},
		"found, then it broke": {result: failed(), err: errors.New("no cluster"), state: v1alpha3.ErrorState, errors: 2, suggestions: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := c.result.conclude("name", c.err)
			if got.Name != "name" || got.State != c.state || len(got.Errors) != c.errors || len(got.Suggestions) != c.suggestions {
				t.Errorf("result is %+v", got)
			}
		})
	}
}
