// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	psaapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// with runs a check of a gateway that is Ready, and removes it.
func with(ctx context.Context, r *result, check func(*gateway) error) (err error) {
	g, err := newGateway(ctx, r)
	if g != nil {
		defer func() { err = errors.Join(err, g.remove(ctx)) }()
	}
	if err != nil {
		return err
	}
	return check(g)
}

// testOwnership checks by the managed fields that each of the two writers has written its own part of the status.
func testOwnership(ctx context.Context, r *result) error {
	return with(ctx, r, func(g *gateway) error {
		s, err := g.server(ctx)
		if err != nil {
			return err
		}
		return checkOwnership(r, s.ManagedFields, g.steady())
	})
}

// owned are the fields of the status of a gateway in dynamic mode that reports, by who has to own each, and nobody else.
func owned(backend string) map[string][]fieldpath.Path {
	condition := func(kind string) fieldpath.Path {
		return fieldpath.MakePathOrDie("status", "conditions", fieldpath.KeyByFields("type", kind), "status")
	}
	entry := func(field string) fieldpath.Path {
		return fieldpath.MakePathOrDie("status", "discoveredBackends", fieldpath.KeyByFields("kind", v1alpha1.KindMCPBackend, "name", backend), field)
	}
	field := func(parts ...any) fieldpath.Path {
		return fieldpath.MakePathOrDie(append([]any{"status"}, parts...)...)
	}
	return map[string][]fieldpath.Path{
		v1alpha1.OperatorFieldManager: {
			field("url"), field("observedGeneration"),
			condition(v1alpha1.ConditionGroupRefValid), condition(v1alpha1.ConditionOperandRendered), condition(v1alpha1.ConditionRBACReady),
			condition(v1alpha1.ConditionConfigReady), condition(v1alpha1.ConditionDeploymentReady), condition(v1alpha1.ConditionServiceReady),
			condition(v1alpha1.ConditionRuntimeReporting),
		},
		v1alpha1.RuntimeFieldManager: {
			field("phase"), field("message"), field("backends", "total"), field("catalog", "tools"), field("runtime", "reporter"),
			condition(v1alpha1.ConditionReady), condition(v1alpha1.ConditionBackendsDiscovered), condition(v1alpha1.ConditionCatalogReady),
			entry("status"), entry("reason"), entry("url"), entry("transport"), entry("tools"), entry("lastTransitionTime"),
		},
	}
}

// checkOwnership says which fields of a status have another owner than they should, or a second one.
func checkOwnership(r *result, entries []metav1.ManagedFieldsEntry, backend string) error {
	sets := map[string]*fieldpath.Set{}
	for _, e := range entries {
		if e.Subresource != "status" || e.FieldsV1 == nil {
			continue
		}
		set := &fieldpath.Set{}
		if err := set.FromJSON(e.FieldsV1.GetRawReader()); err != nil {
			return fmt.Errorf("decoding the managed fields of %s: %w", e.Manager, err)
		}
		if e.Operation != metav1.ManagedFieldsOperationApply {
			r.fail("Write the status by server-side apply.", "%s wrote the status by %s", e.Manager, e.Operation)
		}
		if known := sets[e.Manager]; known != nil {
			set = set.Union(known)
		}
		sets[e.Manager] = set
	}
	checked := 0
	for owner, paths := range owned(backend) {
		for _, path := range paths {
			var owners []string
			for manager, set := range sets {
				if set.Has(path) {
					owners = append(owners, manager)
				}
			}
			slices.Sort(owners)
			if !slices.Equal(owners, []string{owner}) {
				r.fail("Each writer applies its own fields under its own field manager: see docs/concepts/split.md.",
					"%s belongs to %s, and is owned by %s", path, owner, named(owners))
			}
			checked++
		}
	}
	r.logf("%d fields of the status, managers: %d", checked, len(sets))
	return nil
}

func named(owners []string) string {
	if len(owners) == 0 {
		return "nobody"
	}
	return strings.Join(owners, " and ")
}

// testRestricted checks that the pods of gateways and of workloads are what the Pod Security Standard "restricted" allows.
func testRestricted(ctx context.Context, r *result) error {
	return with(ctx, r, func(g *gateway) error {
		pods := &corev1.PodList{}
		if err := g.List(ctx, pods, client.InNamespace(g.namespace)); err != nil {
			return fmt.Errorf("listing pods: %w", err)
		}
		ours := slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool {
			instance := p.Labels[instanceLabel]
			return instance != g.name && instance != g.steady() && instance != g.shaky()
		})
		if len(ours) < 3 {
			r.fail("Label the pods with "+instanceLabel+".", "a gateway and two workloads have %d pods", len(ours))
		}
		return checkPods(r, ours)
	})
}

func checkPods(r *result, pods []corev1.Pod) error {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return fmt.Errorf("preparing the Pod Security Standards: %w", err)
	}
	for i := range pods {
		p := &pods[i]
		verdict := policy.AggregateCheckResults(evaluator.EvaluatePod(
			psaapi.LevelVersion{Level: psaapi.LevelRestricted, Version: psaapi.LatestVersion()}, &p.ObjectMeta, &p.Spec))
		if !verdict.Allowed {
			r.fail("Set what the Pod Security Standard restricted asks for.", "pod %s is not restricted: %s", p.Name, verdict.ForbiddenDetail())
		}
		for _, c := range p.Spec.Containers {
			// The images of workloads are somebody else's, and may have to write there.
			if c.Name == gatewayContainer && (c.SecurityContext == nil || c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem) {
				r.fail("Set readOnlyRootFilesystem.", "container %s of pod %s may write to its image", c.Name, p.Name)
			}
		}
		r.logf("pod %s: restricted %t", p.Name, verdict.Allowed)
	}
	return nil
}

// testDegraded checks that the status says so when a backend goes, which one it is, and when it is back.
func testDegraded(ctx context.Context, r *result) error {
	return with(ctx, r, func(g *gateway) error {
		if err := g.scale(ctx, 0); err != nil {
			return err
		}
		// On its way there it may be slow, which is Degraded too.
		err := g.await(ctx, r, v1alpha1.PhaseDegraded, "without "+g.shaky(), func(s *v1alpha1.VirtualMCPServer) string {
			for _, b := range s.Status.DiscoveredBackends {
				if b.Status.Served() != (b.Name == g.steady()) {
					return fmt.Sprintf("backend %s is %s (%s: %s)", b.Name, b.Status, b.Reason, b.Message)
				}
			}
			return ""
		})
		if err != nil {
			return err
		}
		s, err := g.server(ctx)
		if err != nil {
			return err
		}
		if !strings.Contains(s.Status.Message, g.shaky()) {
			r.fail("Name the backend in the message.", "the message does not name %s: %s", g.shaky(), s.Status.Message)
		}
		if err := g.scale(ctx, 1); err != nil {
			return err
		}
		return g.await(ctx, r, v1alpha1.PhaseReady, "with both backends", nil)
	})
}

// testDeletion checks that nothing is left of a gateway and its backends that were deleted.
func testDeletion(ctx context.Context, r *result) error {
	return with(ctx, r, func(g *gateway) error {
		before, err := g.left(ctx)
		if err != nil {
			return err
		}
		if len(before) == 0 {
			return errors.New("nothing is found of a gateway that is there, so that nothing can be said about what is left of one")
		}
		if err := g.remove(ctx); err != nil {
			return err
		}
		err = until(ctx, "the objects of the gateway to go", "Give every object an owner reference, and nothing a finalizer.", func(ctx context.Context) (string, error) {
			left, err := g.left(ctx)
			return strings.Join(left, ", "), err
		})
		if err == nil {
			r.logf("%d objects are gone", len(before))
		}
		return err
	})
}

func eachItem(list client.ObjectList, do func(client.Object)) error {
	return meta.EachListItem(list, func(o runtime.Object) error {
		object, ok := o.(client.Object)
		if !ok {
			return fmt.Errorf("unexpected %T in a list", o)
		}
		do(object)
		return nil
	})
}
