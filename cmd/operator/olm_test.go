// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/operator-framework/api/crds"
	apiv2 "github.com/operator-framework/api/pkg/operators/v2"

	coordinationv1 "k8s.io/api/coordination/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/vmcp-dev/vmcp-operator/controllers"
	"github.com/vmcp-dev/vmcp-operator/internal/olm"
)

// Where OLM installed the operator it is not ready before it has told OLM something, says what is in the way, and does not wait for
// the lead, which the version before may still have.
func TestReadinessWaitsForOLM(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	g.SetDefaultEventuallyTimeout(soon)
	config, kubeconfig := controlPlane(t, g)
	scheme, err := controllers.NewScheme()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(apiv2.AddToScheme(scheme)).To(Succeed())
	api, err := client.New(config, client.Options{Scheme: scheme})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(api.Create(t.Context(), &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: leaseName},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: new("the version before"), LeaseDurationSeconds: new(int32(3600)), RenewTime: new(metav1.NowMicro()),
		},
	})).To(Succeed())

	metrics, probes := freeAddress(g), freeAddress(g)
	operator := program(t, t.Output(), map[string]string{
		"KUBECONFIG":              kubeconfig,
		envRuntimeImage:           "registry.example.com/vmcp-runtime:test",
		envPodNamespace:           "default",
		olm.ConditionNameVariable: "vmcp-operator.v0.2.0",
	}, "--leader-elect", "--metrics-authorization=none", "--metrics-bind-address", metrics, "--health-probe-bind-address", probes)
	g.Expect(operator.Start()).To(Succeed())
	t.Cleanup(func() { _ = operator.Process.Kill(); _ = operator.Wait() })

	readyz, reason := "http://"+probes+"/readyz", "http://"+probes+"/readyz/"+controllers.OperatorConditionController
	inTheWay := func() string { _, body := answer(t, reason); return body }
	g.Eventually(inTheWay).Should(ContainSubstring(`no matches for kind "OperatorCondition"`))
	g.Expect(status(t, readyz)).To(Equal(http.StatusInternalServerError))
	g.Expect(status(t, "http://"+probes+"/healthz")).To(Equal(http.StatusOK))
	// Where no ClusterRole lets the operator ask who a caller is, it does not ask.
	readMetrics := func() string { _, body := answer(t, "https://"+metrics+"/metrics"); return body }
	g.Eventually(readMetrics).Should(ContainSubstring("vmcp_operator_give_backs_total"))

	_, err = envtest.InstallCRDs(config, envtest.CRDInstallOptions{CRDs: []*apiextensionsv1.CustomResourceDefinition{crds.OperatorCondition()}})
	g.Expect(err).NotTo(HaveOccurred())
	g.Eventually(inTheWay).Should(ContainSubstring(`"vmcp-operator.v0.2.0" not found`))
	g.Expect(status(t, readyz)).To(Equal(http.StatusInternalServerError))

	condition := &apiv2.OperatorCondition{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "vmcp-operator.v0.2.0"}}
	g.Expect(api.Create(t.Context(), condition)).To(Succeed())
	g.Eventually(status).WithArguments(t, readyz).Should(Equal(http.StatusOK))
	g.Expect(api.Get(t.Context(), client.ObjectKeyFromObject(condition), condition)).To(Succeed())
	said := meta.FindStatusCondition(condition.Spec.Conditions, apiv2.Upgradeable)
	g.Expect(said).NotTo(BeNil())
	g.Expect(said.Status).To(Equal(metav1.ConditionFalse))
	g.Expect(said.Reason).To(Equal("Starting"))
	g.Expect(condition.Spec.Conditions).To(HaveLen(1), "the rest is for the leader to say")
}
