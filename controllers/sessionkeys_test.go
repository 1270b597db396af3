// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	. "github.com/onsi/gomega"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/controllers"
)

// keyKeeper is the controller of session keys with its clock in the test's hand. It keeps everything that it says.
type keyKeeper struct {
	*fixture
	reconciler *controllers.SessionKeysReconciler
	clock      time.Time
	next       time.Duration
	recorded   *events.FakeRecorder
	logged     strings.Builder
}

// newKeyKeeper makes a namespace with a gateway, whose requests pass through the layers given.
func newKeyKeeper(t *testing.T, layers ...func(http.RoundTripper) http.RoundTripper) *keyKeeper {
	t.Helper()
	f := newNamespace(t)
	f.create(f.server(gatewayName, "team"))
	k := &keyKeeper{fixture: f, clock: time.Now().Truncate(time.Second)}
	return k.restarted(layers...)
}

// restarted makes it a new process.
func (k *keyKeeper) restarted(layers ...func(http.RoundTripper) http.RoundTripper) *keyKeeper {
	k.t.Helper()
	config := rest.CopyConfig(operatorConfig)
	config.QPS, config.Burst = -1, 0
	config.UserAgent = controllers.UserAgentPrefix + controllers.SessionKeysController
	for _, layer := range append(layers, k.requests.wrap) {
		config.Wrap(layer)
	}
	c, err := client.New(config, client.Options{Scheme: admin.Scheme()})
	k.Expect(err).NotTo(HaveOccurred())
	k.recorded = events.NewFakeRecorder(100)
	k.reconciler = &controllers.SessionKeysReconciler{
		Client: controllers.Client{Controller: k.namespace, Client: c, Live: c, Events: k.recorded},
		Now:    func() time.Time { return k.clock },
	}
	return k
}

// look does what an event would cause.
func (k *keyKeeper) look() {
	k.t.Helper()
	logger := funcr.New(func(prefix, args string) { k.logged.WriteString(prefix + args + "\n") }, funcr.Options{Verbosity: 10})
	result, err := k.reconciler.Reconcile(ctrl.LoggerInto(k.ctx, logger), k.requestFor(gatewayName))
	k.Expect(err).NotTo(HaveOccurred())
	k.next = result.RequeueAfter
}

// wait lets time pass, in which nothing happens but what it comes back for by itself.
func (k *keyKeeper) wait(d time.Duration) {
	k.t.Helper()
	for end := k.clock.Add(d); k.clock.Before(end); {
		step := min(end.Sub(k.clock), k.next)
		k.Expect(step).To(BeNumerically(">", 0), "it never comes back")
		k.clock = k.clock.Add(step)
		if step == k.next {
			k.look()
		} else {
			k.next -= step
		}
	}
}

// told are the events since the last call: type and reason.
func (k *keyKeeper) told() (told []string) {
	k.t.Helper()
	for {
		select {
		case e := <-k.recorded.Events:
			k.logged.WriteString(e + "\n")
			told = append(told, strings.Join(strings.Fields(e)[:2], " "))
		default:
			return told
		}
	}
}

// sent are the methods of the requests for the Secret since the last call.
func (k *keyKeeper) sent() []string {
	k.t.Helper()
	defer k.requests.forget()
	return k.keyRequests()
}

// keyRequests are the methods of the requests of the controller, all of which are for the one Secret, events and, of a controller without
// a cache, the VirtualMCPServer apart.
func (f *fixture) keyRequests() (methods []string) {
	f.t.Helper()
	for _, r := range f.requests.of(controllers.SessionKeysController) {
		if r.event() || strings.HasSuffix(r.path, "/virtualmcpservers/"+gatewayName) {
			continue
		}
		f.Expect(r.path).To(Equal("/api/v1/namespaces/" + f.namespace + "/secrets/" + v1alpha1.OperandName(gatewayName)))
		methods = append(methods, r.method)
	}
	return methods
}

func (f *fixture) sessionKeys() *corev1.Secret {
	f.t.Helper()
	s, err := get[corev1.Secret](f, v1alpha1.OperandName(gatewayName))
	f.Expect(err).NotTo(HaveOccurred())
	return s
}

// expectKeys checks which keys a Secret has, and that none is another.
func (f *fixture) expectKeys(s *corev1.Secret, names ...string) {
	f.t.Helper()
	f.Expect(slices.Sorted(maps.Keys(s.Data))).To(Equal(names))
	seen := map[string]bool{}
	for name, key := range s.Data {
		f.Expect(key).To(HaveLen(configv1alpha1.SessionKeySize), name)
		f.Expect(seen[string(key)]).To(BeFalse(), name)
		seen[string(key)] = true
	}
}

// Each gateway has one Secret. Only its own controller asks for it: twice to provide it, and not when the gateway reports.
func TestSessionKeysAreProvided(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"))
	s := f.converge(gatewayName)
	secret := f.sessionKeys()
	f.expectKeys(secret, "current", "next")
	f.Expect(secret.Type).To(Equal(corev1.SecretType("vmcp.dev/session-keys")))
	f.Expect(metav1.IsControlledBy(secret, s)).To(BeTrue())
	f.Expect(secret.OwnerReferences).To(HaveLen(1))
	f.Expect(secret.Labels).To(And(
		HaveKeyWithValue(v1alpha1.ManagedByLabel, v1alpha1.ManagedByValue),
		HaveKeyWithValue(v1alpha1.VirtualMCPServerLabel, gatewayName),
		HaveKeyWithValue("app.kubernetes.io/component", "gateway"),
		Not(HaveKey(v1alpha1.CredentialLabel))))
	for _, annotation := range []string{v1alpha1.SessionKeysRotatedAnnotation, v1alpha1.SessionKeysNextSinceAnnotation} {
		since, err := time.Parse(time.RFC3339, secret.Annotations[annotation])
		f.Expect(err).NotTo(HaveOccurred())
		f.Expect(since).To(BeTemporally("~", time.Now(), time.Minute))
	}

	f.Expect(f.keyRequests()).To(Equal([]string{http.MethodGet, http.MethodPatch}))
	f.expectSecretsAreItsBusinessAlone()

	// Reports change the object, its spec does not; then it does.
	f.requests.forget()
	f.report(s, s.Generation+1)
	touch[v1alpha1.VirtualMCPServer](f, gatewayName)
	f.Consistently(f.keyRequests).Should(BeEmpty())
	edit(f, gatewayName, func(s *v1alpha1.VirtualMCPServer) {
		s.Spec.CommonMetadata.Labels = map[string]v1alpha1.LabelValue{"team": "platform"}
		s.Spec.CommonMetadata.Annotations = map[string]v1alpha1.AnnotationValue{"example.com/owner": "platform"}
	})
	f.Eventually(func(g Gomega) {
		changed := f.sessionKeys()
		g.Expect(changed.Labels).To(HaveKeyWithValue("team", "platform"))
		g.Expect(changed.Annotations).To(HaveKeyWithValue("example.com/owner", "platform"))
		g.Expect(changed.Data).To(Equal(secret.Data))
	}).Should(Succeed())
	f.expectSecretsAreItsBusinessAlone()
}

func (f *fixture) expectSecretsAreItsBusinessAlone() {
	f.t.Helper()
	f.Expect(f.requests.filter(func(r request) bool {
		return strings.Contains(r.path, "/secrets") && r.userAgent != controllers.UserAgentPrefix+controllers.SessionKeysController
	})).To(BeEmpty())
}

// An operator that is started anew looks once, and writes nothing.
func TestSessionKeysSurviveARestart(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"))
	f.converge(gatewayName)
	f.stop()
	before := f.sessionKeys()
	f.requests.forget()
	f.start()
	f.Eventually(f.keyRequests).ShouldNot(BeEmpty())
	f.Consistently(func(g Gomega) {
		g.Expect(f.keyRequests()).To(Equal([]string{http.MethodGet}))
		g.Expect(f.sessionKeys().ResourceVersion).To(Equal(before.ResourceVersion))
	}).Should(Succeed())
}

// A key is next for a day, current for a day, previous for nine hours; in between the Secret is looked at and never written. Nothing of
// what the operator says tells a key.
func TestSessionKeysRotate(t *testing.T) {
	t.Parallel()
	k := newKeyKeeper(t)
	k.look()
	k.Expect(k.sent()).To(Equal([]string{http.MethodGet, http.MethodPatch}))
	first := k.sessionKeys()
	var all [][]byte
	for _, key := range first.Data {
		all = append(all, key)
	}
	for _, age := range []time.Duration{0, 9 * time.Hour} { // of the current key
		k.wait(24*time.Hour - time.Minute - age)
		k.Expect(k.sessionKeys().Data).To(Equal(first.Data))
		k.Expect(k.sent()).NotTo(ContainElement(http.MethodPatch))
		k.Expect(k.told()).To(BeEmpty())

		k.wait(time.Minute)
		rotated := k.sessionKeys()
		k.expectKeys(rotated, "current", "next", "previous")
		k.Expect(rotated.Data["current"]).To(Equal(first.Data["next"]))
		k.Expect(rotated.Data["previous"]).To(Equal(first.Data["current"]))
		all = append(all, rotated.Data["next"])
		k.Expect(k.told()).To(Equal([]string{"Normal SessionKeysRotated"}))

		k.wait(9*time.Hour - time.Second)
		k.Expect(k.sessionKeys().ResourceVersion).To(Equal(rotated.ResourceVersion))
		k.wait(time.Second)
		dropped := k.sessionKeys()
		k.expectKeys(dropped, "current", "next")
		k.Expect(dropped.Data["current"]).To(Equal(rotated.Data["current"]))
		k.Expect(dropped.Data["next"]).To(Equal(rotated.Data["next"]))
		k.Expect(k.sent()).To(ContainElement(http.MethodPatch))
		first = dropped
	}
	k.Expect(k.logged.String()).To(ContainSubstring("Session keys rotated"))
	for _, key := range all {
		for _, text := range []string{string(key), base64.StdEncoding.EncodeToString(key), fmt.Sprintf("%x", key), fmt.Sprint(key)} {
			k.Expect(k.logged.String()).NotTo(ContainSubstring(text))
		}
	}
}

// A request by annotation is carried out once the next key is an hour old, once, and by a new process not again.
func TestSessionKeysRotateOnRequest(t *testing.T) {
	t.Parallel()
	k := newKeyKeeper(t)
	k.look()
	first := k.sessionKeys()
	ask := func(value string) {
		edit(k.fixture, gatewayName, func(s *v1alpha1.VirtualMCPServer) {
			s.Annotations = map[string]string{v1alpha1.RotateSessionKeysAnnotation: value}
		})
		k.look()
	}
	ask("now")
	k.Expect(k.sessionKeys().Data).To(Equal(first.Data), "no pod may have the next key yet")
	k.wait(time.Hour)
	rotated := k.sessionKeys()
	k.Expect(rotated.Data["current"]).To(Equal(first.Data["next"]))
	k.Expect(rotated.Annotations).To(HaveKeyWithValue(v1alpha1.RotateSessionKeysAnnotation, "now"))
	k.restarted().look()
	k.wait(8 * time.Hour)
	k.Expect(k.sessionKeys().ResourceVersion).To(Equal(rotated.ResourceVersion))

	k.wait(time.Hour)
	ask("again")
	again := k.sessionKeys()
	k.Expect(again.Data["current"]).To(Equal(rotated.Data["next"]), "at once")
	ask(strings.Repeat("é", 1000)) // cut within a character
	k.wait(9 * time.Hour)
	long := k.sessionKeys()
	k.Expect(long.Data["current"]).To(Equal(again.Data["next"]))
	k.wait(time.Hour)
	k.Expect(k.sessionKeys().ResourceVersion).To(Equal(long.ResourceVersion))
}

// The annotation wakes the controller.
func TestRequestToRotateIsHeard(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"))
	f.converge(gatewayName)
	// The Secret of a gateway that is two hours old.
	edit(f, v1alpha1.OperandName(gatewayName), func(s *corev1.Secret) {
		old := time.Now().Add(-2 * time.Hour).UTC().Format(time.RFC3339)
		s.Annotations[v1alpha1.SessionKeysRotatedAnnotation], s.Annotations[v1alpha1.SessionKeysNextSinceAnnotation] = old, old
	})
	before := f.sessionKeys()
	edit(f, gatewayName, func(s *v1alpha1.VirtualMCPServer) {
		s.Annotations = map[string]string{v1alpha1.RotateSessionKeysAnnotation: "now"}
	})
	f.Eventually(func(g Gomega) {
		s := f.sessionKeys()
		g.Expect(s.Data).To(HaveKeyWithValue("current", before.Data["next"]))
		g.Expect(s.Data).To(HaveKeyWithValue("previous", before.Data["current"]))
	}).Should(Succeed())
}

// What is deleted or damaged comes back within twelve minutes, and what is left of the keys stays in use.
func TestLostSessionKeysComeBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lose func(*fixture)
		told []string
		// kept and promoted say what becomes of the keys from before.
		kept, promoted bool
	}{
		"deleted": {
			lose: func(f *fixture) { f.Expect(admin.Delete(f.ctx, f.sessionKeys())).To(Succeed()) },
			told: []string{"Warning SessionKeysReplaced"},
		},
		"no data": {
			lose: func(f *fixture) {
				edit(f, v1alpha1.OperandName(gatewayName), func(s *corev1.Secret) { s.Data = nil })
			},
			told: []string{"Warning SessionKeysReplaced"},
		},
		"current key cut": {
			lose: func(f *fixture) {
				edit(f, v1alpha1.OperandName(gatewayName), func(s *corev1.Secret) { s.Data["current"] = []byte("short") })
			},
			told: []string{"Warning SessionKeysReplaced"}, promoted: true,
		},
		"next key deleted": {
			lose: func(f *fixture) {
				edit(f, v1alpha1.OperandName(gatewayName), func(s *corev1.Secret) { delete(s.Data, "next") })
			},
			kept: true,
		},
		"labels and times removed": {
			lose: func(f *fixture) {
				edit(f, v1alpha1.OperandName(gatewayName), func(s *corev1.Secret) { s.Labels, s.Annotations = nil, nil })
			},
			kept: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKeyKeeper(t)
			k.look()
			before := k.sessionKeys()
			k.wait(2 * time.Hour)
			k.Expect(k.told()).To(BeEmpty())
			c.lose(k.fixture)
			k.Expect(k.next).To(BeNumerically("<=", 12*time.Minute))
			k.wait(12 * time.Minute)
			s := k.sessionKeys()
			k.expectKeys(s, "current", "next")
			k.Expect(bytes.Equal(s.Data["current"], before.Data["current"])).To(Equal(c.kept))
			k.Expect(bytes.Equal(s.Data["current"], before.Data["next"])).To(Equal(c.promoted))
			k.Expect(s.Labels).To(Equal(before.Labels))
			k.Expect(s.Annotations).To(HaveLen(2))
			k.Expect(k.told()).To(Equal(c.told))
			k.wait(12 * time.Minute)
			k.Expect(k.sessionKeys().ResourceVersion).To(Equal(s.ResourceVersion))
		})
	}
}

// Somebody else's Secret stays as it is, also one that comes between the look and the write. It is told once; when it is gone, the
// gateway gets keys.
func TestForeignSecretIsNotTakenOver(t *testing.T) {
	t.Parallel()
	foreign := func(f *fixture) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: f.meta(v1alpha1.OperandName(gatewayName)), Data: map[string][]byte{"password": []byte("hunter2")}}
	}
	for name, overtaking := range map[string]bool{"there before": false, "created meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var k *keyKeeper
			var once sync.Once
			k = newKeyKeeper(t, func(next http.RoundTripper) http.RoundTripper {
				return roundTripper(func(r *http.Request) (*http.Response, error) {
					if overtaking && r.Method == http.MethodPatch {
						once.Do(func() { k.create(foreign(k.fixture)) })
					}
					return next.RoundTrip(r)
				})
			})
			if !overtaking {
				k.create(foreign(k.fixture))
			}
			k.look()
			before := k.sessionKeys()
			k.Expect(before.Data).To(HaveLen(1))
			k.Expect(k.told()).To(Equal([]string{"Warning SessionKeysNotOwned"}))
			k.wait(time.Hour)
			k.Expect(k.told()).To(BeEmpty())
			k.Expect(k.sessionKeys()).To(Equal(before))

			k.Expect(admin.Delete(k.ctx, before)).To(Succeed())
			k.wait(72 * time.Second)
			k.expectKeys(k.sessionKeys(), "current", "next")
			k.Expect(k.told()).To(Equal([]string{"Normal SessionKeysProvided"}))
		})
	}
}

// A gateway is provisioned whatever keeps its keys away.
func TestGatewayWithoutSessionKeysIsProvisioned(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		setup func(*fixture)
		told  string
	}{
		"foreign Secret": {func(f *fixture) { f.create(f.secret(v1alpha1.OperandName(gatewayName))) }, "Warning SessionKeysNotOwned"},
		"operator that may not write Secrets": {func(f *fixture) {
			f.installNamespaced()
			edit(f, "vmcp-operator", func(role *rbacv1.Role) {
				for i := range role.Rules {
					if slices.Contains(role.Rules[i].Resources, "secrets") {
						role.Rules[i].Verbs = []string{"get", "watch"}
					}
				}
			})
			f.Eventually(func() bool {
				return f.operatorMay("list", "", "pods", f.namespace) && !f.operatorMay("patch", "", "secrets", f.namespace)
			}).Should(BeTrue())
			f.operatorConfig = rest.CopyConfig(adminConfig)
			f.operatorConfig.Impersonate = f.operatorAccount()
		}, "Warning SessionKeysRefused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newNamespace(t)
			c.setup(f)
			f.start()
			f.create(f.group("team"))
			s := f.converge(gatewayName)
			f.Expect(s).NotTo(BeNil())
			f.Eventually(func(g Gomega) { g.Expect(f.events(g, s)).To(HaveKeyWithValue(c.told, 1)) }).Should(Succeed())
			f.eventually(gatewayName, lackCondition(v1alpha1.ConditionStalled))
			secret, err := get[corev1.Secret](f, v1alpha1.OperandName(gatewayName))
			f.Expect(client.IgnoreNotFound(err)).To(Succeed())
			f.Expect(secret.Data).NotTo(HaveKey("current"))
		})
	}
}

// Of what is paused or on its way out nothing is even looked at.
func TestSessionKeysOfPausedAndDeletedGateways(t *testing.T) {
	t.Parallel()
	f := newNamespace(t)
	paused, deleted := f.server("paused", "team"), f.server("deleted", "team")
	pause(paused)
	deleted.Finalizers = []string{"example.com/slow"}
	f.create(f.group("team"), paused, deleted)
	f.Expect(admin.Delete(f.ctx, deleted)).To(Succeed())
	f.start()
	f.create(f.server(gatewayName, "team"))
	f.Eventually(func() error {
		_, err := get[corev1.Secret](f, v1alpha1.OperandName(gatewayName))
		return err
	}).Should(Succeed())
	f.Consistently(func() []request {
		return slices.DeleteFunc(f.requests.of(controllers.SessionKeysController), func(r request) bool {
			return strings.HasSuffix(r.path, "/secrets/"+v1alpha1.OperandName(gatewayName))
		})
	}).Should(BeEmpty())

	edit(f, "paused", func(s *v1alpha1.VirtualMCPServer) { s.Annotations = nil })
	f.Eventually(func() error {
		_, err := get[corev1.Secret](f, v1alpha1.OperandName("paused"))
		return err
	}).Should(Succeed())
	edit(f, "deleted", func(s *v1alpha1.VirtualMCPServer) { s.Finalizers = nil })
}

// One that is paused later is left alone, too: its keys neither rotate nor come back.
func TestSessionKeysAreLeftAloneWhilePaused(t *testing.T) {
	t.Parallel()
	k := newKeyKeeper(t)
	k.look()
	edit(k.fixture, gatewayName, func(s *v1alpha1.VirtualMCPServer) { pause(s) })
	k.Expect(admin.Delete(k.ctx, k.sessionKeys())).To(Succeed())
	k.sent()
	k.clock = k.clock.Add(48 * time.Hour)
	k.look()
	k.Expect(k.next).To(BeZero())
	k.Expect(k.sent()).To(BeEmpty())
}

// The Secret of a gateway that was deleted is not its successor's. There is no garbage collector in these tests; the test is it.
func TestSuccessorGetsKeysOfItsOwn(t *testing.T) {
	t.Parallel()
	k := newKeyKeeper(t)
	k.look()
	left := k.sessionKeys()
	k.Expect(admin.Delete(k.ctx, k.server(gatewayName, "team"))).To(Succeed())
	k.look()
	k.Expect(k.next).To(BeZero())
	successor := k.server(gatewayName, "team")
	k.create(successor)
	k.look()
	k.Expect(k.next).To(Equal(5 * time.Second))
	k.Expect(k.sessionKeys()).To(Equal(left))
	k.Expect(admin.Delete(k.ctx, left)).To(Succeed())
	k.wait(5 * time.Second)
	s := k.sessionKeys()
	k.Expect(metav1.IsControlledBy(s, successor)).To(BeTrue())
	k.Expect(s.Data["current"]).NotTo(Equal(left.Data["current"]))
	k.Expect(k.told()).To(BeEmpty())
}
