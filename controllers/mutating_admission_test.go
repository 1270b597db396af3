// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	. "github.com/onsi/gomega"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// mutator is an admission plugin as meshes, scanners and policy engines bring one: it puts something of its own into everything that is
// written, other things at each write.
type mutator struct {
	calls atomic.Int64
}

// ServeHTTP implements http.Handler.
func (m *mutator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	review := admissionv1.AdmissionReview{}
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	object := metav1.PartialObjectMetadata{}
	if err := json.Unmarshal(review.Request.Object.Raw, &object); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	var patch []operation
	add := func(path string, value any) { patch = append(patch, operation{"add", path, value}) }
	if object.Annotations == nil {
		add("/metadata/annotations", map[string]string{})
	}
	add("/metadata/annotations/example.com~1seen", strconv.FormatInt(m.calls.Add(1), 10))
	add("/metadata/labels/example.com~1team", "platform")
	switch review.Request.Kind.Kind {
	case "Deployment":
		add("/spec/template/metadata/annotations/example.com~1injected", "true")
		add("/spec/template/metadata/labels/example.com~1team", "platform")
		add("/spec/template/spec/priorityClassName", "gateways")
		add("/spec/template/spec/tolerations", []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists}})
		add("/spec/template/spec/containers/0/terminationMessagePath", "/tmp/last-words")
	case "Service":
		add("/spec/publishNotReadyAddresses", true)
	case "ConfigMap":
		add("/data/ca.crt", "injected")
	}
	data, err := json.Marshal(patch)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	review.Response = &admissionv1.AdmissionResponse{
		UID: review.Request.UID, Allowed: true, Patch: data, PatchType: new(admissionv1.PatchTypeJSONPatch),
	}
	review.Request = nil
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(review); err != nil {
		panic(err) // the server logs it, and the API server gets no answer
	}
}

// mutate has everything that is written in the fixture's namespace pass through a mutator.
func (f *fixture) mutate() *mutator {
	f.t.Helper()
	m := &mutator{}
	server := httptest.NewTLSServer(m)
	f.t.Cleanup(server.Close)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	none, always, path := admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.Fail, server.URL
	webhook := &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: f.namespace},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name:                    "mutator.example.com",
			ClientConfig:            admissionregistrationv1.WebhookClientConfig{URL: &path, CABundle: certificate},
			AdmissionReviewVersions: []string{"v1"},
			SideEffects:             &none,
			FailurePolicy:           &always,
			NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: f.namespace}},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
				Rule: admissionregistrationv1.Rule{
					APIGroups: []string{"", "apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments", "services", "configmaps", "serviceaccounts"},
				},
			}},
		}},
	}
	f.create(webhook)
	f.t.Cleanup(func() { f.Expect(admin.Delete(context.Background(), webhook)).To(Succeed()) })
	// The API server takes up a new plugin after a moment.
	f.Eventually(func(g Gomega) {
		probe := &corev1.ConfigMap{ObjectMeta: f.meta("probe")}
		probe.Labels, probe.Data = map[string]string{"a": "b"}, map[string]string{"a": "b"}
		g.Expect(admin.Create(f.ctx, probe, client.DryRunAll)).To(Succeed())
		g.Expect(probe.Labels).To(HaveKey("example.com/team"))
	}).Should(Succeed())
	return m
}

// What an admission plugin adds to the operand, at every write something else, is no drift: the operator settles, stays still when it is
// woken or starts anew, and repairs what is its own with one write.
func TestMutatingAdmissionCausesNoLoop(t *testing.T) {
	t.Parallel()
	f := newNamespace(t)
	m := f.mutate()
	f.start()
	f.create(f.group("team"))
	f.converge("gateway")
	mutated := func(g Gomega) {
		d, err := get[appsv1.Deployment](f, "vmcp-gateway")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(d.Spec.Template.Spec.PriorityClassName).To(Equal("gateways"))
		g.Expect(d.Spec.Template.Spec.Tolerations).To(HaveLen(1))
		for kind, o := range f.operand(g, "gateway") {
			if kind == "Deployment" || kind == "Service" || kind == "ConfigMap" || kind == "ServiceAccount" {
				g.Expect(o.GetLabels()).To(HaveKeyWithValue("example.com/team", "platform"), kind)
				g.Expect(o.GetAnnotations()).To(HaveKey("example.com/seen"), kind)
			}
		}
	}
	mutated(f)
	f.Expect(m.calls.Load()).To(BeNumerically(">=", 4))

	// An operator that starts anew looks at everything.
	f.stop()
	f.requests.forget()
	f.start()
	f.Expect(f.manager.GetCache().WaitForCacheSync(f.ctx)).To(BeTrue())
	f.Consistently(f.requests.writes).Should(BeEmpty())

	// So does one that is woken, by writes that the plugin changes once more. The status is another matter: other annotations make
	// another generation of a Deployment, and nobody here rolls it out.
	applied := func() []request {
		return slices.DeleteFunc(f.requests.writes(), func(r request) bool { return strings.HasSuffix(r.path, "/status") })
	}
	wake := func(o metav1.Object) { o.GetAnnotations()["example.com/wake"] = "now" }
	edit(f, "vmcp-gateway", func(o *appsv1.Deployment) { wake(o) })
	edit(f, "vmcp-gateway", func(o *corev1.Service) { wake(o) })
	edit(f, "vmcp-gateway", func(o *corev1.ConfigMap) { wake(o) })
	f.Consistently(applied).Should(BeEmpty())

	// What is the operator's own it repairs, and leaves the rest.
	edit(f, "vmcp-gateway", func(o *corev1.ConfigMap) { o.Data["config.yaml"] = "edited" })
	f.Eventually(func(g Gomega) {
		c, err := get[corev1.ConfigMap](f, "vmcp-gateway")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(c.Data).To(And(HaveKeyWithValue("config.yaml", ContainSubstring("group: team")), HaveKeyWithValue("ca.crt", "injected")))
	}).Should(Succeed())
	f.Consistently(applied).Should(HaveLen(1))
	mutated(f)
}
