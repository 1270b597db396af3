// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	metaac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	vmcpac "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube/kubetest"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
	"github.com/vmcp-dev/vmcp-operator/runtime/telemetry"
)

// server is a VirtualMCPServer in a namespace of its own, with the Lease that the operator makes.
type server struct {
	client.Client
	config          *rest.Config
	namespace, name string
}

func newServer(t *testing.T) *server {
	t.Helper()
	return newServerAt(t, kubetest.Config(t))
}

// newServerAt makes one at another API server.
func newServerAt(t *testing.T, config *rest.Config) *server {
	t.Helper()
	s := &server{Client: kubetest.ClientOf(t, config), config: config, name: "team"}
	s.namespace = kubetest.Namespace(t, s)
	s.create(t)
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1alpha1.OperandName(s.name)}}
	if err := s.Create(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) create(t *testing.T) {
	t.Helper()
	object := &v1alpha1.VirtualMCPServer{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: s.name},
		Spec:       v1alpha1.VirtualMCPServerSpec{GroupRef: v1alpha1.LocalReference{Name: "team"}},
	}
	if err := s.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

func (s *server) get(t *testing.T) *v1alpha1.VirtualMCPServer {
	t.Helper()
	object := &v1alpha1.VirtualMCPServer{}
	if err := s.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: s.name}, object); err != nil {
		t.Fatal(err)
	}
	return object
}

func (s *server) holder(t *testing.T) string {
	t.Helper()
	lease := &coordinationv1.Lease{}
	if err := s.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: v1alpha1.OperandName(s.name)}, lease); err != nil {
		t.Fatal(err)
	}
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

func (s *server) expectPhase(t *testing.T, want v1alpha1.Phase) *v1alpha1.VirtualMCPServer {
	t.Helper()
	var object *v1alpha1.VirtualMCPServer
	kubetest.Eventually(t, func() string {
		object = s.get(t)
		if got := object.Status.Phase; got != want {
			return "phase is " + string(got) + ", want " + string(want)
		}
		return ""
	})
	return object
}

func (s *server) expectHolder(t *testing.T, want string) {
	t.Helper()
	kubetest.Eventually(t, func() string {
		if got := s.holder(t); got != want {
			return "the Lease is held by " + got + ", want " + want
		}
		return ""
	})
}

// operatorWrites applies a part of the status as the operator does.
func (s *server) operatorWrites(t *testing.T) {
	t.Helper()
	_, err := kubetest.Clients(t, s.namespace, s.name).VirtualMCPServers.ApplyStatus(t.Context(),
		vmcpac.VirtualMCPServer(s.name, s.namespace).WithStatus(vmcpac.VirtualMCPServerStatus().
			WithURL("http://vmcp-team."+s.namespace+".svc/mcp").
			WithConditions(metaac.Condition().WithType(v1alpha1.ConditionDeploymentReady).WithStatus(metav1.ConditionTrue).
				WithReason(v1alpha1.ReasonAvailable).WithMessage("").WithLastTransitionTime(metav1.Now()))),
		metav1.ApplyOptions{FieldManager: v1alpha1.OperatorFieldManager, Force: true})
	if err != nil {
		t.Fatal(err)
	}
}

// reporter is a KubeReporter that runs, and the number of its writes.
type reporter struct {
	*status.KubeReporter
	writes atomic.Int64
	// accepted are the times of the writes that the API server took.
	accepted chan time.Time
	pauses   pauses
	stop     func()
}

func (s *server) reporter(t *testing.T, pod string) *reporter {
	t.Helper()
	return s.reporterFor(t, pod, "")
}

// reporterFor is a reporter for the object of that UID.
func (s *server) reporterFor(t *testing.T, pod string, uid types.UID) *reporter {
	t.Helper()
	return s.reporterWith(t, s.config, status.KubeReporterOptions{UID: uid, Identity: status.Identity{Reporter: pod, Version: "v1"}})
}

// reporterWith is a reporter with options, of which it sets those that have to do with the test.
func (s *server) reporterWith(t *testing.T, config *rest.Config, o status.KubeReporterOptions) *reporter {
	t.Helper()
	clients, err := kube.New(config, s.namespace, s.name)
	if err != nil {
		t.Fatal(err)
	}
	r := &reporter{accepted: make(chan time.Time, 100)}
	o.Clients, o.Name, o.Pauses, o.Applied = clients, s.name, &r.pauses, r.applied
	o.Logger = kubetest.Logger(t).With("pod", o.Identity.Reporter)
	r.KubeReporter = status.NewKubeReporter(o)
	r.stop = kubetest.Start(t, func(ctx context.Context) {
		if err := r.Run(ctx); err != nil {
			t.Errorf("the reporter ended with: %v", err)
		}
	})
	return r
}

func (r *reporter) applied(result string) {
	if result == telemetry.ApplySkipped {
		return
	}
	r.writes.Add(1)
	if result == telemetry.ApplySent {
		r.accepted <- time.Now()
	}
}

// expectWrites waits for the answers to as many writes, since what they wrote is seen before they are answered.
func (r *reporter) expectWrites(t *testing.T, want int64) {
	t.Helper()
	kubetest.Eventually(t, func() string {
		if got := r.writes.Load(); got != want {
			return fmt.Sprintf("%d writes, want %d", got, want)
		}
		return ""
	})
}

func TestKubeReporter_WritesOnChangeOnly(t *testing.T) {
	s := newServer(t)
	s.operatorWrites(t)
	r := s.reporter(t, "pod-1")
	r.Report(report(ready("a"), ready("b")))
	first := s.expectPhase(t, v1alpha1.PhaseReady)

	if len(first.Status.DiscoveredBackends) != 2 || first.Status.Runtime.Reporter != "pod-1" || first.Status.URL == "" {
		t.Errorf("status is %+v", first.Status)
	}
	r.expectWrites(t, 1)

	// The same again, and again with other times, makes no difference. The change that follows tells that they were looked at.
	for range 10 {
		same := report(ready("b"), ready("a"))
		same.Backends[0].Verdict.Since = time.Now()
		r.Report(same)
	}
	s.operatorWrites(t) // it touches the object, not what is ours
	touched := s.get(t).ResourceVersion
	for range 10 {
		r.Report(report(ready("a"), ready("b")))
	}
	consistently(t, 7*time.Second, func() string {
		if got := s.get(t).ResourceVersion; got != touched {
			return "the object was written although nothing changed"
		}
		return ""
	})
	r.Report(report(ready("a"), down("b")))
	second := s.expectPhase(t, v1alpha1.PhaseDegraded)
	r.expectWrites(t, 2)
	if a, b := first.Status.DiscoveredBackends[0], second.Status.DiscoveredBackends[0]; a.Name != b.Name || !a.LastTransitionTime.Equal(&b.LastTransitionTime) {
		t.Errorf("a did not change: %+v, %+v", a, b)
	}
}

func consistently(t *testing.T, during time.Duration, check func() string) {
	t.Helper()
	deadline := time.NewTimer(during)
	defer deadline.Stop()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		if problem := check(); problem != "" {
			t.Fatal(problem)
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			return
		}
	}
}

func TestKubeReporter_OwnsItsFieldsAlone(t *testing.T) {
	s := newServer(t)
	s.operatorWrites(t)
	r := s.reporter(t, "pod-1")
	r.Report(report(ready("a")))
	s.expectPhase(t, v1alpha1.PhaseReady)
	s.operatorWrites(t)
	object := s.get(t)

	sets := map[string]*fieldpath.Set{}
	for _, entry := range object.ManagedFields {
		if entry.Subresource != "status" {
			continue
		}
		set := &fieldpath.Set{}
		if err := set.FromJSON(entry.FieldsV1.GetRawReader()); err != nil {
			t.Fatal(err)
		}
		if entry.Operation != metav1.ManagedFieldsOperationApply {
			t.Errorf("%s wrote the status by %s", entry.Manager, entry.Operation)
		}
		sets[entry.Manager] = set.Leaves()
	}
	operator, runtime := sets[v1alpha1.OperatorFieldManager], sets[v1alpha1.RuntimeFieldManager]
	if len(sets) != 2 || operator == nil || runtime == nil {
		t.Fatalf("managers of the status are %v", sets)
	}
	if both := operator.Intersection(runtime); !both.Empty() {
		t.Errorf("fields of two managers: %s", both)
	}
	for _, path := range []fieldpath.Path{
		fieldpath.MakePathOrDie("status", "phase"), fieldpath.MakePathOrDie("status", "message"),
		fieldpath.MakePathOrDie("status", "backends", "ready"), fieldpath.MakePathOrDie("status", "catalog", "tools"),
		fieldpath.MakePathOrDie("status", "runtime", "reporter"),
	} {
		if !runtime.Has(path) {
			t.Errorf("the runtime does not own %s", path)
		}
	}
	if !meta.IsStatusConditionTrue(object.Status.Conditions, v1alpha1.ConditionDeploymentReady) {
		t.Error("the operator's condition is gone")
	}
}

func TestKubeReporter_OnlyTheHolderReports(t *testing.T) {
	s := newServer(t)
	first := s.reporter(t, "pod-1")
	first.Report(report(ready("a")))
	s.expectPhase(t, v1alpha1.PhaseReady)
	s.expectHolder(t, "pod-1")

	second := s.reporter(t, "pod-2")
	second.Report(report(down("a"))) // it sees something else
	first.Report(report(ready("a"), slow("b")))
	s.expectPhase(t, v1alpha1.PhaseDegraded)
	if writes := second.writes.Load(); writes != 0 {
		t.Errorf("the second replica wrote %d times while the first one held the Lease", writes)
	}

	first.stop()
	s.expectHolder(t, "pod-2")
	object := s.expectPhase(t, v1alpha1.PhaseFailed)
	if object.Status.Runtime.Reporter != "pod-2" {
		t.Errorf("reporter is %s, want pod-2", object.Status.Runtime.Reporter)
	}
	second.stop()
	s.expectHolder(t, "")

	// A pod whose container was restarted finds its own name in the Lease, and goes on at once.
	lease := &coordinationv1.Lease{}
	if err := s.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: v1alpha1.OperandName(s.name)}, lease); err != nil {
		t.Fatal(err)
	}
	pod := "pod-3"
	lease.Spec.HolderIdentity = &pod
	if err := s.Update(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	third := s.reporter(t, pod)
	third.Report(report(ready("a")))
	s.expectPhase(t, v1alpha1.PhaseReady)
}

func TestKubeReporter_HandsOverWithoutATrace(t *testing.T) {
	s := newServer(t)
	first := s.reporter(t, "pod-1")
	first.Report(report(ready("a"), down("b")))
	before := s.expectPhase(t, v1alpha1.PhaseDegraded)
	first.stop()
	second := s.reporter(t, "pod-2")
	same := report(ready("a"), down("b"))
	for i := range same.Backends {
		same.Backends[i].Verdict.Since = time.Now()
	}
	second.Report(same)
	kubetest.Eventually(t, func() string {
		if got := s.get(t).Status.Runtime.Reporter; got != "pod-2" {
			return "the reporter is " + got
		}
		return ""
	})
	after := s.get(t)
	after.Status.Runtime = before.Status.Runtime
	if !slices.EqualFunc(before.Status.Conditions, after.Status.Conditions, func(a, b metav1.Condition) bool { return a == b }) ||
		before.Status.Phase != after.Status.Phase || len(after.Status.DiscoveredBackends) != 2 ||
		!before.Status.DiscoveredBackends[1].LastTransitionTime.Equal(&after.Status.DiscoveredBackends[1].LastTransitionTime) {
		t.Errorf("before: %+v\nafter:  %+v", before.Status, after.Status)
	}
}

func TestKubeReporter_HealsWhatSomebodyElseWrote(t *testing.T) {
	s := newServer(t)
	r := s.reporter(t, "pod-1")
	r.Report(report(ready("a")))
	object := s.expectPhase(t, v1alpha1.PhaseReady)
	object.Status.Phase = v1alpha1.PhaseFailed
	object.Status.DiscoveredBackends = nil
	if err := s.Status().Update(t.Context(), object, client.FieldOwner("kubectl-edit")); err != nil {
		t.Fatal(err)
	}
	kubetest.Eventually(t, func() string {
		got := s.get(t).Status
		if got.Phase != v1alpha1.PhaseReady || len(got.DiscoveredBackends) != 1 {
			return "phase is " + string(got.Phase)
		}
		return ""
	})
}

// Somebody who writes the phase ten times a second is answered at most every five seconds.
func TestKubeReporter_HealsSeldom(t *testing.T) {
	s := newServer(t)
	r := s.reporter(t, "pod-1")
	r.Report(report(ready("a")))
	s.expectPhase(t, v1alpha1.PhaseReady)
	last, edits := <-r.accepted, 0
	editor, deadline := time.NewTicker(100*time.Millisecond), time.After(time.Minute)
	defer editor.Stop()
	for heals := 0; heals < 2; {
		select {
		case <-editor.C:
			patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"status":{"phase":"Failed","message":"edit %d"}}`, edits))
			if err := s.Status().Patch(t.Context(), s.get(t), patch, client.FieldOwner("kubectl-edit")); err != nil {
				t.Fatal(err)
			}
			edits++
		case at := <-r.accepted:
			// The interval is counted from the answer to a write, which comes a moment after this time.
			if d := at.Sub(last); d < 5*time.Second-500*time.Millisecond {
				t.Errorf("%v between two writes", d)
			}
			last = at
			heals++
		case <-deadline:
			t.Fatalf("healed %d times in a minute", heals)
		}
	}
	if edits < 10 {
		t.Errorf("%d edits prove nothing", edits)
	}
	editor.Stop()
	s.expectPhase(t, v1alpha1.PhaseReady)
}

// A report that was decided on and is then held up, by the network or because the process stood still, has no effect if somebody else
// has written meanwhile.
func TestKubeReporter_DelayedReportLoses(t *testing.T) {
	s := newServer(t)
	sent, goOn := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	code := make(chan int, 1)
	s.config = rest.CopyConfig(s.config)
	s.config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			if req.Method != http.MethodPatch || !strings.HasSuffix(req.URL.Path, "/status") || !first.CompareAndSwap(false, true) {
				return next.RoundTrip(req)
			}
			close(sent)
			<-goOn
			res, err := next.RoundTrip(req)
			if err == nil {
				code <- res.StatusCode
			}
			return res, err
		})
	})
	r := s.reporter(t, "pod-1")
	r.Report(report(ready("a")))
	<-sent
	// Another replica took the Lease and reports; this one has yet to hear of it.
	lease := &coordinationv1.Lease{}
	if err := s.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: v1alpha1.OperandName(s.name)}, lease); err != nil {
		t.Fatal(err)
	}
	lease.Spec.HolderIdentity = new("pod-2")
	if err := s.Update(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	_, err := kubetest.Clients(t, s.namespace, s.name).VirtualMCPServers.ApplyStatus(t.Context(),
		vmcpac.VirtualMCPServer(s.name, s.namespace).WithStatus(vmcpac.VirtualMCPServerStatus().
			WithPhase(v1alpha1.PhaseFailed).WithMessage("nothing serves").WithRuntime(vmcpac.RuntimeInfo().WithReporter("pod-2"))),
		metav1.ApplyOptions{FieldManager: v1alpha1.RuntimeFieldManager, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	close(goOn)
	if got := <-code; got != http.StatusConflict {
		t.Errorf("the delayed report was answered with %d", got)
	}
	r.expectWrites(t, 1)
	got := s.expectPhase(t, v1alpha1.PhaseFailed)
	if got.Status.Runtime.Reporter != "pod-2" {
		t.Errorf("reported by %s", got.Status.Runtime.Reporter)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestKubeReporter_FollowsARecreatedObject(t *testing.T) {
	s := newServer(t)
	r := s.reporter(t, "pod-1")
	r.Report(report(ready("a")))
	object := s.expectPhase(t, v1alpha1.PhaseReady)
	if err := s.Delete(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	s.create(t)
	s.expectPhase(t, v1alpha1.PhaseReady)
}

// A runtime reports for its own object, not for one that was created under the same name later.
func TestKubeReporter_LeavesAnotherObjectAlone(t *testing.T) {
	s := newServer(t)
	owner := s.get(t)
	lease := &coordinationv1.Lease{}
	if err := s.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: v1alpha1.OperandName(s.name)}, lease); err != nil {
		t.Fatal(err)
	}
	lease.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner, v1alpha1.GroupVersion.WithKind("VirtualMCPServer"))}
	if err := s.Update(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	first := s.reporterFor(t, "pod-1", "deleted-long-ago")
	first.Report(report(ready("a")))
	second := s.reporterFor(t, "pod-2", owner.UID)
	second.Report(report(ready("a")))
	object := s.expectPhase(t, v1alpha1.PhaseReady)
	if object.Status.Runtime.Reporter != "pod-2" {
		t.Errorf("the reporter is %s", object.Status.Runtime.Reporter)
	}
	second.stop() // the Lease is free
	if n := first.writes.Load(); n != 0 {
		t.Errorf("the runtime of a deleted object wrote %d times", n)
	}
}

func TestKubeReporter_RecordsPhaseTransitions(t *testing.T) {
	s := newServer(t)
	r := s.reporter(t, "pod-1")
	r.Report(report(ready("a"), ready("b")))
	s.expectPhase(t, v1alpha1.PhaseReady)
	r.Report(report(ready("a"), down("b")))
	s.expectPhase(t, v1alpha1.PhaseDegraded)
	kubetest.Eventually(t, func() string {
		events := &eventsv1.EventList{}
		if err := s.List(t.Context(), events, client.InNamespace(s.namespace)); err != nil {
			return err.Error()
		}
		var got []string
		for _, e := range events.Items {
			got = append(got, e.Type+" "+e.Reason+" "+e.Regarding.Kind)
		}
		slices.Sort(got)
		want := []string{
			"Normal AllBackendsReady VirtualMCPServer", "Normal BackendReady VirtualMCPServer",
			"Warning BackendUnavailable VirtualMCPServer", "Warning BackendsNotReady VirtualMCPServer",
		}
		if !slices.Equal(got, want) {
			return "events are " + strings.Join(got, ", ")
		}
		return ""
	})
}
