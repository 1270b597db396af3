// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"testing"

	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/controllers"
)

func TestSteadyStateHasNoWrites(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"))
	f.converge("gateway")
	f.create(f.backend("grafana", remote("https://mcp.example.com/mcp")), f.workloadBackend("kube"))
	f.create(f.credential("token"), f.authConfig("token", "token"))
	f.eventuallyUsable("token")
	f.eventuallyBackend("grafana", haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonNothingToProvision))
	f.Eventually(func(g Gomega) {
		_, err := get[corev1.Service](f, "mcpb-kube")
		g.Expect(err).NotTo(HaveOccurred())
	}).Should(Succeed())
	f.rollOut("mcpb-kube")
	f.eventuallyBackend("kube", haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonAvailable))
	f.Eventually(func(g Gomega) {
		group, err := get[v1alpha1.MCPGroup](f, "team")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(group.Status.Backends).To(HaveValue(BeEquivalentTo(2)))
		g.Expect(group.Status.VirtualMCPServers).To(HaveValue(BeEquivalentTo(1)))
	}).Should(Succeed())

	f.stop()
	before := f.resourceVersions()
	f.requests.forget()
	f.start()
	// Every object is reconciled once more, on purpose and to its end, through the caches of the new operator.
	f.Eventually(func(g Gomega) {
		g.Expect(f.manager.GetCache().WaitForCacheSync(f.ctx)).To(BeTrue())
		g.Expect(f.reconcileAll()).To(Succeed())
	}).Should(Succeed())
	f.Consistently(f.requests.writes).Should(BeEmpty())
	f.Expect(f.requests.events()).To(BeEmpty())
	f.Expect(f.resourceVersions()).To(Equal(before))
}

// reconcileAll runs each controller's Reconcile for the objects of TestSteadyStateHasNoWrites.
func (f *fixture) reconcileAll() error {
	for name, reconcile := range map[string]func(controllers.Client) (ctrl.Result, error){
		controllers.VirtualMCPServerController: func(c controllers.Client) (ctrl.Result, error) {
			r := &controllers.VirtualMCPServerReconciler{
				Client: c, RuntimeImage: runtimeImage, ProxyEnv: []corev1.EnvVar{{Name: "NO_PROXY", Value: ".svc"}},
			}
			return r.Reconcile(f.ctx, f.requestFor("gateway"))
		},
		controllers.MCPBackendController: func(c controllers.Client) (ctrl.Result, error) {
			r := &controllers.MCPBackendReconciler{Client: c, RuntimeImage: runtimeImage}
			if result, err := r.Reconcile(f.ctx, f.requestFor("grafana")); err != nil {
				return result, err
			}
			return r.Reconcile(f.ctx, f.requestFor("kube"))
		},
		controllers.MCPGroupController: func(c controllers.Client) (ctrl.Result, error) {
			return (&controllers.MCPGroupReconciler{Client: c}).Reconcile(f.ctx, f.requestFor("team"))
		},
		controllers.MCPExternalAuthConfigController: func(c controllers.Client) (ctrl.Result, error) {
			return (&controllers.MCPExternalAuthConfigReconciler{Client: c}).Reconcile(f.ctx, f.requestFor("token"))
		},
		controllers.SessionKeysController: func(c controllers.Client) (ctrl.Result, error) {
			return (&controllers.SessionKeysReconciler{Client: c}).Reconcile(f.ctx, f.requestFor("gateway"))
		},
	} {
		c, err := controllers.NewClient(f.manager, name)
		if err != nil {
			return err
		}
		if _, err := reconcile(c); err != nil {
			return err
		}
	}
	return nil
}

func (f *fixture) requestFor(name string) ctrl.Request {
	return ctrl.Request{NamespacedName: client.ObjectKey{Namespace: f.namespace, Name: name}}
}

// resourceVersions are those of everything in the namespace that the operator may write.
func (f *fixture) resourceVersions() map[string]string {
	f.t.Helper()
	versions := map[string]string{}
	for _, list := range []client.ObjectList{
		&v1alpha1.VirtualMCPServerList{}, &v1alpha1.MCPBackendList{}, &v1alpha1.MCPGroupList{},
		&v1alpha1.MCPExternalAuthConfigList{}, &corev1.ServiceAccountList{}, &rbacv1.RoleList{}, &rbacv1.RoleBindingList{}, &corev1.ConfigMapList{},
		&coordinationv1.LeaseList{}, &appsv1.DeploymentList{}, &corev1.ServiceList{}, &corev1.SecretList{},
	} {
		f.Expect(admin.List(f.ctx, list, client.InNamespace(f.namespace))).To(Succeed())
		f.Expect(meta.EachListItem(list, func(o runtimeObject) error {
			a, err := meta.Accessor(o)
			if err == nil {
				versions[kindName(o)+"/"+a.GetName()] = a.GetResourceVersion()
			}
			return err
		})).To(Succeed())
	}
	f.Expect(versions).NotTo(BeEmpty())
	return versions
}
