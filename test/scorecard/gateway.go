// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

const (
	// namespaceFile is where every pod finds the namespace that it is in.
	namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
	pollInterval  = time.Second
	// cleanupTimeout is for deleting what a test made, also when its own time is over.
	cleanupTimeout = 30 * time.Second

	instanceLabel = "app.kubernetes.io/instance"
	// gatewayContainer is the container of a gateway in its pod.
	gatewayContainer = "vmcp"
)

// gateway is a VirtualMCPServer over a group of two backends, both the MCP server in the tests' own image: steady stays, and shaky may be
// taken away.
type gateway struct {
	client.Client
	namespace, name string
}

func (g *gateway) steady() string { return g.name + "-steady" }
func (g *gateway) shaky() string  { return g.name + "-shaky" }

// newGateway makes a gateway of a name that nobody else has, and waits until it is Ready. The gateway is there, and is to be removed, also if
// there is an error.
func newGateway(ctx context.Context, r *result) (*gateway, error) {
	image, err := ownImage()
	if err != nil {
		return nil, err
	}
	namespace, err := os.ReadFile(namespaceFile)
	if err != nil {
		return nil, fmt.Errorf("finding the namespace of the test: %w", err)
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("reaching the cluster: %w", err)
	}
	// The API server makes a name of its own for the group; the rest takes it over.
	group := &v1alpha1.MCPGroup{ObjectMeta: metav1.ObjectMeta{GenerateName: "scorecard-", Namespace: strings.TrimSpace(string(namespace))}}
	if err := c.Create(ctx, group); err != nil {
		return nil, fmt.Errorf("making a group: %w", err)
	}
	g := &gateway{Client: c, namespace: group.Namespace, name: group.Name}
	for _, o := range []client.Object{
		g.backend(g.steady(), image), g.backend(g.shaky(), image),
		&v1alpha1.VirtualMCPServer{
			ObjectMeta: g.meta(g.name), Spec: v1alpha1.VirtualMCPServerSpec{GroupRef: v1alpha1.LocalReference{Name: group.Name}},
		},
	} {
		if err := c.Create(ctx, o); err != nil {
			return g, fmt.Errorf("making %s: %w", o.GetName(), err)
		}
	}
	err = g.await(ctx, r, v1alpha1.PhaseReady, "at first", nil)
	return g, err
}

func (g *gateway) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: g.namespace}
}

func (g *gateway) backend(name, image string) *v1alpha1.MCPBackend {
	return &v1alpha1.MCPBackend{
		ObjectMeta: g.meta(name),
		Spec: v1alpha1.MCPBackendSpec{
			GroupRef: v1alpha1.LocalReference{Name: g.name}, Transport: v1alpha1.TransportStreamableHTTP,
			Workload: &v1alpha1.Workload{Image: image, Args: []string{"serve"}, Port: serverPort, Path: serverPath, Replicas: ptr.To[int32](1)},
		},
	}
}

// scale sets the number of pods of the shaky backend.
func (g *gateway) scale(ctx context.Context, replicas int32) error {
	patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"workload":{"replicas":%d}}}`, replicas))
	if err := g.Patch(ctx, &v1alpha1.MCPBackend{ObjectMeta: g.meta(g.shaky())}, patch); err != nil {
		return fmt.Errorf("scaling %s to %d: %w", g.shaky(), replicas, err)
	}
	return nil
}

// server reads the VirtualMCPServer.
func (g *gateway) server(ctx context.Context) (*v1alpha1.VirtualMCPServer, error) {
	s := &v1alpha1.VirtualMCPServer{}
	if err := g.Get(ctx, client.ObjectKey{Namespace: g.namespace, Name: g.name}, s); err != nil {
		return nil, fmt.Errorf("reading the VirtualMCPServer: %w", err)
	}
	return s, nil
}

// await waits for a phase, and until check, which may be nil, finds nothing wrong. when says which of several waits it is.
func (g *gateway) await(ctx context.Context, r *result, want v1alpha1.Phase, when string, check func(*v1alpha1.VirtualMCPServer) string) error {
	began := time.Now()
	err := until(ctx, fmt.Sprintf("the phase %s %s", want, when),
		"Look at the status of the VirtualMCPServer and the logs of its pod, and of the operator: does it watch this namespace?",
		func(ctx context.Context) (string, error) {
			s, err := g.server(ctx)
			switch {
			case err != nil:
				return "", err
			case s.Status.Phase != want || s.Status.ObservedGeneration != s.Generation:
				return fmt.Sprintf("the phase is %q: %s", s.Status.Phase, s.Status.Message), nil
			case check != nil:
				return check(s), nil
			default:
				return "", nil
			}
		})
	if err == nil {
		r.logf("%s %s after %s", want, when, time.Since(began).Round(time.Second))
	}
	return err
}

// remove deletes what the test made. Nothing of it has a finalizer, so that it need not be waited for.
func (g *gateway) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	var failed []error
	for _, o := range []client.Object{
		&v1alpha1.VirtualMCPServer{ObjectMeta: g.meta(g.name)}, &v1alpha1.MCPBackend{ObjectMeta: g.meta(g.steady())},
		&v1alpha1.MCPBackend{ObjectMeta: g.meta(g.shaky())}, &v1alpha1.MCPGroup{ObjectMeta: g.meta(g.name)},
	} {
		if err := client.IgnoreNotFound(g.Delete(ctx, o)); err != nil {
			failed = append(failed, fmt.Errorf("deleting %s: %w", o.GetName(), err))
		}
	}
	return errors.Join(failed...)
}

// left are the objects that the operator made for the gateway and its backends, each as kind and name.
func (g *gateway) left(ctx context.Context) ([]string, error) {
	var found []string
	for kind, list := range map[string]client.ObjectList{
		"Deployment": &appsv1.DeploymentList{}, "Pod": &corev1.PodList{}, "Service": &corev1.ServiceList{}, "ConfigMap": &corev1.ConfigMapList{},
		"Secret": &corev1.SecretList{}, "ServiceAccount": &corev1.ServiceAccountList{}, "Role": &rbacv1.RoleList{},
		"RoleBinding": &rbacv1.RoleBindingList{}, "Lease": &coordinationv1.LeaseList{},
	} {
		if err := g.List(ctx, list, client.InNamespace(g.namespace)); err != nil {
			return nil, fmt.Errorf("listing objects of kind %s: %w", kind, err)
		}
		err := eachItem(list, func(o client.Object) {
			if instance := o.GetLabels()[instanceLabel]; instance == g.name || instance == g.steady() || instance == g.shaky() || g.owns(o) {
				found = append(found, kind+" "+o.GetName())
			}
		})
		if err != nil {
			return nil, fmt.Errorf("listing objects of kind %s: %w", kind, err)
		}
	}
	return found, nil
}

// owns says that an object names one of ours as its owner.
func (g *gateway) owns(o client.Object) bool {
	for _, owner := range o.GetOwnerReferences() {
		if strings.HasPrefix(owner.APIVersion, v1alpha1.GroupVersion.Group+"/") &&
			(owner.Name == g.name || owner.Name == g.steady() || owner.Name == g.shaky()) {
			return true
		}
	}
	return false
}

// waitError says that something did not come about in time.
type waitError struct{ what, last, suggestion string }

// Error implements error.
func (e *waitError) Error() string {
	return fmt.Sprintf("waited for %s in vain: %s", e.what, e.last)
}

// until waits until check finds nothing wrong any more. An API server that cannot be asked is asked again.
func until(ctx context.Context, what, suggestion string, check func(context.Context) (problem string, err error)) error {
	last := "nothing was seen"
	err := wait.PollUntilContextCancel(ctx, pollInterval, true, func(ctx context.Context) (bool, error) {
		problem, err := check(ctx)
		if apierrors.IsForbidden(err) {
			return false, err
		}
		if err != nil {
			problem = err.Error()
		}
		if problem != "" && ctx.Err() == nil {
			last = problem
		}
		return problem == "", nil
	})
	if ctx.Err() != nil && err != nil {
		return &waitError{what: what, last: last, suggestion: suggestion}
	}
	return err
}
