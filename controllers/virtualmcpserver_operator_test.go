// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/controllers"
)

// operator is the controller of VirtualMCPServers with time and work queue in the test's hand: it reads from the API server itself,
// so that every reconciliation sees what was done before it, and comes back when it asked for, on a clock that the test moves.
type operator struct {
	*fixture
	reconciler *controllers.VirtualMCPServerReconciler
	clock      *time.Time
	next       time.Time
}

const gatewayName = "gateway"

// newOperator makes a namespace with a group and a gateway, and an operator that has yet to do something about them.
func newOperator(t *testing.T) *operator {
	t.Helper()
	f := newNamespace(t)
	f.create(f.group("team"), f.server(gatewayName, "team"))
	clock := time.Now()
	return (&operator{fixture: f, clock: &clock}).restarted(f.requests.wrap)
}

// restarted is the operator as a new process, whose requests pass through the layers given.
func (o *operator) restarted(layers ...func(http.RoundTripper) http.RoundTripper) *operator {
	o.t.Helper()
	config := rest.CopyConfig(operatorConfig)
	config.QPS, config.Burst = -1, 0
	config.UserAgent = controllers.UserAgentPrefix + controllers.VirtualMCPServerController
	for _, layer := range layers {
		config.Wrap(layer)
	}
	c, err := client.New(config, client.Options{Scheme: admin.Scheme()})
	o.Expect(err).NotTo(HaveOccurred())
	clock := o.clock
	return &operator{fixture: o.fixture, clock: clock, reconciler: &controllers.VirtualMCPServerReconciler{
		Client: controllers.Client{Controller: o.namespace, Client: c, Live: c}, RuntimeImage: runtimeImage, Now: func() time.Time { return *clock },
	}}
}

// reconcile does what an event would cause.
func (o *operator) reconcile() *v1alpha1.VirtualMCPServer {
	o.t.Helper()
	result, err := o.reconciler.Reconcile(o.ctx, o.requestFor(gatewayName))
	o.Expect(err).NotTo(HaveOccurred())
	o.next = time.Time{}
	if result.RequeueAfter > 0 {
		o.next = o.clock.Add(result.RequeueAfter)
	}
	return o.get()
}

// wait lets time pass, in which nothing happens but what the operator itself comes back for.
func (o *operator) wait(d time.Duration) *v1alpha1.VirtualMCPServer {
	o.t.Helper()
	end := o.clock.Add(d)
	for !o.next.IsZero() && !o.next.After(end) {
		*o.clock = o.next
		o.reconcile()
	}
	*o.clock = end
	return o.get()
}

func (o *operator) get() *v1alpha1.VirtualMCPServer {
	o.t.Helper()
	s, err := get[v1alpha1.VirtualMCPServer](o.fixture, gatewayName)
	o.Expect(err).NotTo(HaveOccurred())
	return s
}

// statusWrites counts the writes of the status since the last call.
func (o *operator) statusWrites() int {
	n := 0
	for _, r := range o.requests.writes() {
		if strings.HasSuffix(r.path, "/virtualmcpservers/"+gatewayName+"/status") {
			n++
		}
	}
	o.requests.forget()
	return n
}

// hold takes or renews the Lease as a replica of the runtime does; by nobody, it releases it.
func (o *operator) hold(holder string) {
	o.t.Helper()
	l, err := get[coordinationv1.Lease](o.fixture, v1alpha1.OperandName(gatewayName))
	o.Expect(err).NotTo(HaveOccurred())
	renewed := metav1.NowMicro()
	if old := l.Spec.RenewTime; old != nil {
		renewed = metav1.NewMicroTime(old.Add(20 * time.Second))
	}
	l.Spec.HolderIdentity, l.Spec.RenewTime = new(holder), &renewed
	o.Expect(admin.Update(o.ctx, l, client.FieldOwner(v1alpha1.RuntimeFieldManager))).To(Succeed())
	o.reconcile()
}

// live lets time pass with a renewal every 20 s.
func (o *operator) live(d time.Duration) {
	o.t.Helper()
	for end := o.clock.Add(d); o.clock.Before(end); {
		o.wait(20 * time.Second)
		o.hold("pod")
	}
}

// reporting brings the gateway to where the runtime reports.
func (o *operator) reporting() *v1alpha1.VirtualMCPServer {
	o.t.Helper()
	s := o.reconcile()
	o.rollOut(v1alpha1.OperandName(gatewayName))
	o.hold("pod")
	o.report(s, s.Generation)
	s = o.reconcile()
	o.Expect(s.Status.Phase).To(Equal(v1alpha1.PhaseReady))
	o.statusWrites()
	return s
}
