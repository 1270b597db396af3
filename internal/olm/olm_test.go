// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package olm_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	apiv2 "github.com/operator-framework/api/pkg/operators/v2"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/vmcp-dev/vmcp-operator/internal/olm"
	"github.com/vmcp-dev/vmcp-operator/internal/olm/olmtest"
)

var key = client.ObjectKey{Namespace: "operators", Name: "vmcp-operator.v0.2.0"}

// api is an API server with one OperatorCondition, or none, that counts what is asked of it.
type api struct {
	client.Client
	mu            sync.Mutex
	reads, writes int
	// refuse makes as many of the next requests fail with err.
	refuse int
	err    error
}

func newAPI(g *WithT, objects ...client.Object) *api {
	scheme := runtime.NewScheme()
	g.Expect(apiv2.AddToScheme(scheme)).To(Succeed())
	a := &api{}
	failing := func(count *int) error {
		a.mu.Lock()
		defer a.mu.Unlock()
		*count++
		reading := count == &a.reads
		if a.refuse == 0 || reading != errors.Is(a.err, errDown) {
			return nil
		}
		a.refuse--
		return a.err
	}
	a.Client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if err := failing(&a.reads); err != nil {
				return err
			}
			return c.Get(ctx, key, o, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			if err := failing(&a.writes); err != nil {
				return err
			}
			return c.Update(ctx, o, opts...)
		},
	}).Build()
	return a
}

var (
	errDown     = errors.New("connection refused")
	errConflict = apierrors.NewConflict(schema.GroupResource{Group: apiv2.GroupVersion.Group, Resource: "operatorconditions"}, key.Name, errors.New("changed"))
)

func object(conditions ...metav1.Condition) *apiv2.OperatorCondition {
	return &apiv2.OperatorCondition{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		Spec:       apiv2.OperatorConditionSpec{Deployments: []string{"vmcp-operator"}, Conditions: conditions},
	}
}

func (a *api) condition() *olm.OperatorCondition {
	return olm.NewWithClient(a.Client, olmtest.At(key))
}

// says matches what the OperatorCondition says of a type, as status/reason; "" is nothing.
func (a *api) says(g Gomega, conditionType string) string {
	o := &apiv2.OperatorCondition{}
	g.Expect(a.Client.Get(context.Background(), key, o)).To(Succeed())
	g.Expect(o.Spec.Deployments).To(Equal([]string{"vmcp-operator"}), "what is OLM's")
	if c := meta.FindStatusCondition(o.Spec.Conditions, conditionType); c != nil {
		return string(c.Status) + "/" + c.Reason
	}
	return ""
}

var (
	upgradeable = olm.Statement{Type: apiv2.Upgradeable, Status: metav1.ConditionTrue, Reason: "RolledOut", Message: "nothing rolls"}
	available   = olm.Statement{Type: "OperandsAvailable", Status: metav1.ConditionTrue, Reason: "AllAvailable", Message: "2 of 2"}
)

func TestOnlyDifferencesAreWritten(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	a := newAPI(g, object())
	c := a.condition()
	g.Expect(c.State(t.Context(), upgradeable, available)).To(Equal([]olm.Statement{upgradeable, available}))
	g.Expect(a.says(g, apiv2.Upgradeable)).To(Equal("True/RolledOut"))
	g.Expect(a.says(g, "OperandsAvailable")).To(Equal("True/AllAvailable"))

	a.reads, a.writes = 0, 0
	g.Expect(c.State(t.Context(), upgradeable, available)).To(BeEmpty())
	g.Expect([]int{a.reads, a.writes}).To(Equal([]int{1, 0}))

	changed := available
	changed.Message = "3 of 3"
	g.Expect(c.State(t.Context(), upgradeable, changed)).To(Equal([]olm.Statement{changed}))
	g.Expect(a.writes).To(Equal(1))
}

func TestLosingARaceIsTriedAgain(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	a := newAPI(g, object())
	a.refuse, a.err = 2, errConflict
	g.Expect(a.condition().State(t.Context(), upgradeable)).To(HaveLen(1))
	g.Expect(a.says(g, apiv2.Upgradeable)).To(Equal("True/RolledOut"))

	a.refuse = 1000
	_, err := a.condition().State(t.Context(), available)
	g.Expect(apierrors.IsConflict(err)).To(BeTrue(), "%v", err)
	g.Expect(err).To(MatchError(ContainSubstring("stating the condition OperandsAvailable")))
}

func TestAnnouncement(t *testing.T) {
	t.Parallel()
	// When a case looks at what is said, counted from when the process starts.
	looks := []time.Duration{0, 8 * time.Minute, 11 * time.Minute, 19 * time.Minute, 21 * time.Minute}
	const starting, rollingOut, rolledOut, noLeader = "False/Starting", "False/RollingOut", "True/RolledOut", "True/NoLeader"
	const never = -1
	for name, c := range map[string]struct {
		// stands is what an earlier process has said, of that age; "" is nothing.
		stands string
		age    time.Duration
		// refused is how many requests fail, leads when this process is elected, later what a leader says then, and judged whether
		// this process was that.
		refused int
		leads   time.Duration
		later   string
		judged  bool

		wantCheck types.GomegaMatcher
		want      []string
	}{
		"the first word": {leads: never, want: []string{starting, starting, noLeader, noLeader, noLeader}},
		"what an earlier process said stands": {
			stands: rollingOut, leads: never, want: []string{rollingOut, rollingOut, rollingOut, rollingOut, noLeader},
		},
		"an earlier process ended before that": {
			stands: starting, age: 3 * time.Minute, leads: never, want: []string{starting, noLeader, noLeader, noLeader, noLeader},
		},
		"each process ends before the lead": {
			stands: starting, age: 10 * time.Minute, leads: never, want: []string{noLeader, noLeader, noLeader, noLeader, noLeader},
		},
		"a leader ended before the rollout": {
			stands: rollingOut, age: 10 * time.Minute, leads: never, want: []string{rollingOut, rollingOut, noLeader, noLeader, noLeader},
		},
		"each process ends before a verdict": {
			stands: rollingOut, age: 20 * time.Minute, leads: never, want: []string{noLeader, noLeader, noLeader, noLeader, noLeader},
		},
		"an earlier process came to its verdict": {
			stands: rolledOut, age: time.Hour, leads: never, want: []string{rolledOut, rolledOut, rolledOut, rolledOut, rolledOut},
		},
		"a leader takes the time that it needs": {
			leads: 8 * time.Minute, want: []string{starting, starting, starting, noLeader, noLeader},
		},
		"a leader has said its verdict": {
			leads: 0, later: "RollingOut", judged: true, want: []string{rollingOut, rollingOut, rollingOut, rollingOut, rollingOut},
		},
		"another replica has spoken since": {
			leads: never, later: "RollingOut", want: []string{rollingOut, rollingOut, rollingOut, rollingOut, noLeader},
		},
		"the API server is away": {
			refused: 5, leads: never, wantCheck: MatchError(errDown), want: []string{starting, starting, noLeader, noLeader, noLeader},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := NewWithT(t)
				var said []metav1.Condition
				if status, reason, ok := strings.Cut(c.stands, "/"); ok {
					said = append(said, metav1.Condition{
						Type: apiv2.Upgradeable, Status: metav1.ConditionStatus(status), Reason: reason, Message: "wait",
						LastTransitionTime: metav1.NewTime(time.Now().Add(-c.age)),
					})
				}
				a := newAPI(g, object(said...))
				a.refuse, a.err = c.refused, errDown
				elected, judged := make(chan struct{}), make(chan struct{})
				announcement := &olm.Announcement{
					Condition: a.condition(),
					First:     olm.Statement{Type: apiv2.Upgradeable, Status: metav1.ConditionFalse, Reason: "Starting", Message: "wait"},
					Overdue:   olm.Statement{Type: apiv2.Upgradeable, Status: metav1.ConditionTrue, Reason: "NoLeader", Message: "go on"},
					Patience:  10 * time.Minute,
					Elected:   elected,
					Judged:    judged,
					Log:       logr.Discard(),
				}
				g.Expect(announcement.NeedLeaderElection()).To(BeFalse())
				g.Expect(announcement.Check(nil)).To(HaveOccurred())
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				began := time.Now()
				go func() { ended <- announcement.Start(ctx) }()

				synctest.Wait()
				if c.wantCheck != nil {
					g.Expect(announcement.Check(nil)).To(c.wantCheck)
					g.Expect(announcement.Done()).To(BeFalse())
					time.Sleep(time.Minute)
					synctest.Wait()
				}
				for i, look := range looks {
					time.Sleep(time.Until(began.Add(look)))
					if look == c.leads {
						close(elected)
					}
					if look == 0 && c.later != "" {
						statement := olm.Statement{Type: apiv2.Upgradeable, Status: metav1.ConditionFalse, Reason: c.later, Message: "pods"}
						g.Expect(a.condition().State(t.Context(), statement)).To(HaveLen(1))
					}
					if look == 0 && c.judged {
						close(judged)
					}
					synctest.Wait()
					g.Expect(a.says(g, apiv2.Upgradeable)).To(Equal(c.want[i]), "after %s", look)
					// Once OLM was told something, no trouble is worth being taken for not ready.
					g.Expect(announcement.Check(nil)).To(Succeed())
				}
				cancel()
				g.Expect(<-ended).To(Succeed())
			})
		})
	}
}
