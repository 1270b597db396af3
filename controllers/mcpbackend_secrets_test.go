// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/controllers"
)

// secretPath is a way in which a workload can come by what a Secret holds.
type secretPath struct {
	// field is the place in the spec.
	field string
	// use names a Secret there.
	use func(w *v1alpha1.Workload, secret string, optional bool)
	// reaches says whether a pod gets the Secret of that name, on any way.
	reaches func(pod corev1.PodSpec, secret string) bool
}

// secretPaths are all ways.
func secretPaths() map[string]secretPath {
	return map[string]secretPath{
		"env": {
			field: "spec.workload.env[0].valueFrom.secretKeyRef",
			use: func(w *v1alpha1.Workload, secret string, optional bool) {
				w.Env = append(w.Env, v1alpha1.EnvVar{Name: "TOKEN", ValueFrom: &v1alpha1.EnvVarSource{
					SecretKeyRef: &v1alpha1.SecretKeySelector{Name: secret, Key: "authorization", Optional: optional},
				}})
			},
			reaches: func(pod corev1.PodSpec, secret string) bool {
				for _, e := range pod.Containers[0].Env {
					if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && e.ValueFrom.SecretKeyRef.Name == secret {
						return true
					}
				}
				return false
			},
		},
		"envFrom": {
			field: "spec.workload.envFrom[0].secretRef",
			use: func(w *v1alpha1.Workload, secret string, optional bool) {
				w.EnvFrom = append(w.EnvFrom, v1alpha1.EnvFromSource{
					Prefix: "TOKEN_", SecretRef: &v1alpha1.SecretEnvSource{Name: secret, Optional: optional},
				})
			},
			reaches: func(pod corev1.PodSpec, secret string) bool {
				for _, e := range pod.Containers[0].EnvFrom {
					if e.SecretRef != nil && e.SecretRef.Name == secret {
						return true
					}
				}
				return false
			},
		},
		"volume": {
			field: "spec.workload.volumes[0].secret",
			use: func(w *v1alpha1.Workload, secret string, optional bool) {
				w.Volumes = append(w.Volumes, v1alpha1.Volume{
					Name: "plain", Secret: &v1alpha1.SecretVolume{SecretName: secret, Optional: optional},
				})
				w.VolumeMounts = append(w.VolumeMounts, v1alpha1.VolumeMount{Name: "plain", MountPath: "/plain"})
			},
			reaches: func(pod corev1.PodSpec, secret string) bool {
				for _, v := range pod.Volumes {
					if v.Secret != nil && v.Secret.SecretName == secret {
						return true
					}
				}
				return false
			},
		},
		"projected volume": {
			field: "spec.workload.volumes[0].projected.sources[1].secret",
			use: func(w *v1alpha1.Workload, secret string, optional bool) {
				w.Volumes = append(w.Volumes, v1alpha1.Volume{Name: "joined", Projected: &v1alpha1.ProjectedVolume{
					Sources: []v1alpha1.VolumeProjection{
						{ConfigMap: &v1alpha1.ConfigMapVolume{Name: "settings"}},
						{Secret: &v1alpha1.SecretProjection{Name: secret, Optional: optional}},
					},
				}})
				w.VolumeMounts = append(w.VolumeMounts, v1alpha1.VolumeMount{Name: "joined", MountPath: "/joined"})
			},
			reaches: func(pod corev1.PodSpec, secret string) bool {
				for _, v := range pod.Volumes {
					if v.Projected == nil {
						continue
					}
					for _, s := range v.Projected.Sources {
						if s.Secret != nil && s.Secret.Name == secret {
							return true
						}
					}
				}
				return false
			},
		},
	}
}

// using is a workload that names a Secret.
func (p secretPath) using(secret string, optional bool) v1alpha1.Workload {
	w := v1alpha1.Workload{Image: "registry.example.com/kube-mcp:v1"}
	p.use(&w, secret, optional)
	return w
}

func (f *fixture) eventuallyRefusedBackend(name, reason string) *v1alpha1.MCPBackend {
	f.t.Helper()
	return f.eventuallyBackend(name,
		haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, reason),
		haveCondition(v1alpha1.ConditionStalled, metav1.ConditionTrue, reason))
}

func (f *fixture) eventuallyDeployed(backend string) *appsv1.Deployment {
	f.t.Helper()
	f.eventuallyBackend(backend,
		haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing),
		lackCondition(v1alpha1.ConditionStalled))
	d, err := get[appsv1.Deployment](f, v1alpha1.WorkloadName(backend))
	f.Expect(err).NotTo(HaveOccurred())
	return d
}

func (f *fixture) label(secret string) {
	f.t.Helper()
	edit(f, secret, func(s *corev1.Secret) { s.Labels = map[string]string{v1alpha1.CredentialLabel: "true"} })
}

// A workload comes by no Secret whose owner did not consent, on no way; with the consent it does.
func TestWorkloadGetsLabelledSecretsOnly(t *testing.T) {
	t.Parallel()
	for name, path := range secretPaths() {
		for _, optional := range []bool{false, true} {
			title := name
			if optional {
				title += ", optional"
			}
			t.Run(title, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				f.create(f.secret("token"), f.group("team"), f.backend("kube", workload(path.using("token", optional))))
				b := f.eventuallyRefusedBackend("kube", v1alpha1.ReasonSecretNotAllowed)
				f.Expect(meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionReady).Message).To(And(
					HavePrefix(path.field+": "), ContainSubstring(`Secret "token"`), ContainSubstring(v1alpha1.CredentialLabel+`: "true"`)))
				f.expectNothingDeployed("kube")

				f.label("token")
				touch[v1alpha1.MCPBackend](f, "kube")
				d := f.eventuallyDeployed("kube")
				f.Expect(path.reaches(d.Spec.Template.Spec, "token")).To(BeTrue())
			})
		}
	}
}

// A Secret that comes, with its label, is enough: nobody has to touch the backend, and the conditions are clean again.
func TestRefusedWorkloadGoesOnByItself(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"), f.backend("kube", workload(secretPaths()["envFrom"].using("token", false))))
	f.eventuallyRefusedBackend("kube", v1alpha1.ReasonSecretNotFound)
	f.create(f.credential("token"))
	f.eventuallyDeployed("kube")
}

// What runs goes on as it is when a Secret may not be used, be it another one or the one that the pods run with.
func TestWorkloadThatRunsIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	for name, path := range secretPaths() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.create(f.credential("token"), f.secret("other"), f.group("team"), f.backend("kube", workload(path.using("token", false))))
			f.eventuallyDeployed("kube")
			f.rollOut("mcpb-kube")
			f.eventuallyBackend("kube", haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonAvailable))
			running := f.provisioned("kube")
			untouched := func() map[string]string { return f.provisioned("kube") }

			// Another image comes with the other Secret, and waits with it.
			edit(f, "kube", func(b *v1alpha1.MCPBackend) {
				*b.Spec.Workload = path.using("other", false)
				b.Spec.Workload.Image = "registry.example.com/kube-mcp:v2"
			})
			f.eventuallyRefusedBackend("kube", v1alpha1.ReasonSecretNotAllowed)
			f.Consistently(untouched).Should(Equal(running))

			edit(f, "kube", func(b *v1alpha1.MCPBackend) { *b.Spec.Workload = path.using("token", false) })
			f.eventuallyBackend("kube", haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonAvailable))
			edit(f, "token", func(s *corev1.Secret) { s.Labels = nil })
			touch[v1alpha1.MCPBackend](f, "kube")
			f.eventuallyRefusedBackend("kube", v1alpha1.ReasonSecretNotAllowed)
			f.Expect(admin.Delete(f.ctx, f.secret("token"))).To(Succeed())
			touch[v1alpha1.MCPBackend](f, "kube")
			f.eventuallyRefusedBackend("kube", v1alpha1.ReasonSecretNotFound)
			f.Consistently(untouched).Should(Equal(running))
		})
	}
}

// provisioned are the versions of what the operator provisioned for a backend.
func (f *fixture) provisioned(backend string) map[string]string {
	f.t.Helper()
	d, err := get[appsv1.Deployment](f, v1alpha1.WorkloadName(backend))
	f.Expect(err).NotTo(HaveOccurred())
	s, err := get[corev1.Service](f, v1alpha1.WorkloadName(backend))
	f.Expect(err).NotTo(HaveOccurred())
	return map[string]string{"Deployment": string(d.UID) + d.ResourceVersion, "Service": string(s.UID) + s.ResourceVersion}
}

// A Secret that a workload can do without is in its pod only once it is there and labelled: an optional reference of Kubernetes would
// let in whatever Secret comes by that name.
func TestOptionalSecretThatComesLater(t *testing.T) {
	t.Parallel()
	for name, path := range secretPaths() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.create(f.group("team"), f.backend("kube", workload(path.using("token", true))))
			d := f.eventuallyDeployed("kube")
			f.Expect(path.reaches(d.Spec.Template.Spec, "token")).To(BeFalse())
			f.rollOut("mcpb-kube")
			f.eventuallyBackend("kube", haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonAvailable))
			running := f.provisioned("kube")
			touch[v1alpha1.MCPBackend](f, "kube")
			f.Consistently(func() map[string]string { return f.provisioned("kube") }).Should(Equal(running))

			f.create(f.secret("token"))
			touch[v1alpha1.MCPBackend](f, "kube")
			f.eventuallyRefusedBackend("kube", v1alpha1.ReasonSecretNotAllowed)
			f.Expect(f.provisioned("kube")).To(Equal(running))
			f.label("token")
			touch[v1alpha1.MCPBackend](f, "kube")
			d = f.eventuallyDeployed("kube")
			f.Expect(path.reaches(d.Spec.Template.Spec, "token")).To(BeTrue())
		})
	}
}

// One use that cannot do without a Secret is enough to need it, and the message names that one.
func TestSecretThatIsOptionalInOnePlaceOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	paths := secretPaths()
	w := paths["env"].using("token", true)
	paths["volume"].use(&w, "token", false)
	paths["envFrom"].use(&w, "unlabelled", true)
	f.create(f.secret("unlabelled"), f.group("team"), f.backend("kube", workload(w)))
	b := f.eventuallyRefusedBackend("kube", v1alpha1.ReasonSecretNotFound)
	f.Expect(meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionReady).Message).To(And(
		HavePrefix(paths["volume"].field+`: Secret "token" does not exist`),
		ContainSubstring("; "+paths["envFrom"].field+`: Secret "unlabelled"`)))
	f.expectNothingDeployed("kube")
}

// Secrets for pulling the image need no label, need not be there yet, and are not looked at.
func TestWorkloadPullSecrets(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.secret("registry"), f.group("team"), f.backend("kube", workload(v1alpha1.Workload{
		Image: "registry.example.com/kube-mcp:v1", ImagePullSecrets: []v1alpha1.LocalReference{{Name: "registry"}, {Name: "missing"}},
	})))
	d := f.eventuallyDeployed("kube")
	f.Expect(d.Spec.Template.Spec.ImagePullSecrets).To(ConsistOf(HaveField("Name", "registry"), HaveField("Name", "missing")))
	edit(f, "kube", func(b *v1alpha1.MCPBackend) { b.Spec.Workload.ImagePullSecrets = nil })
	f.Eventually(func(g Gomega) {
		d, err := get[appsv1.Deployment](f, "mcpb-kube")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(d.Spec.Template.Spec.ImagePullSecrets).To(BeEmpty())
	}).Should(Succeed())
	f.Expect(f.secretRequests()).To(BeEmpty())
}

// secretRequests are the requests about Secrets that the controller of MCPBackends made.
func (f *fixture) secretRequests() []request {
	var found []request
	for _, req := range f.requests.of(controllers.MCPBackendController) {
		if strings.Contains(req.path, "/secrets") {
			found = append(found, req)
		}
	}
	return found
}

// The operator asks for the Secrets by their names, and never for their data.
func TestSecretsOfWorkloadsAreLookedAtByName(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.credential("token"), f.group("team"), f.backend("kube", workload(secretPaths()["env"].using("token", false))))
	f.eventuallyDeployed("kube")
	requests := f.secretRequests()
	f.Expect(requests).NotTo(BeEmpty())
	for _, req := range requests {
		f.Expect(req.path).To(HaveSuffix("/secrets/token"))
		f.Expect(req.method).To(Equal(http.MethodGet))
		f.Expect(req.accept).To(HavePrefix("application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;"))
	}
}

// No watch tells about Secrets: the controller comes back by itself, within 10 s while it waits for somebody.
func TestSecretsOfWorkloadsAreLookedAtAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	path := secretPaths()["volume"]
	f.create(f.credential("token"), f.secret("unlabelled"), f.group("team"),
		f.backend("found", workload(path.using("token", false))),
		f.backend("missing", workload(path.using("nowhere", false))),
		f.backend("refused", workload(path.using("unlabelled", false))),
		f.backend("absent", workload(path.using("nowhere", true))),
		f.workloadBackend("none"))
	f.eventuallyDeployed("found")
	f.eventuallyDeployed("absent")
	f.eventuallyDeployed("none")
	f.eventuallyRefusedBackend("missing", v1alpha1.ReasonSecretNotFound)
	f.eventuallyRefusedBackend("refused", v1alpha1.ReasonSecretNotAllowed)
	c, err := controllers.NewClient(f.manager, controllers.MCPBackendController)
	f.Expect(err).NotTo(HaveOccurred())
	r := &controllers.MCPBackendReconciler{Client: c, RuntimeImage: runtimeImage}
	for name, c := range map[string]struct{ least, most time.Duration }{
		"found":   {5 * time.Minute, 6 * time.Minute},
		"absent":  {time.Minute, 72 * time.Second},
		"missing": {8 * time.Second, 10 * time.Second},
		"refused": {8 * time.Second, 10 * time.Second},
		"none":    {0, 0},
	} {
		result, err := r.Reconcile(f.ctx, f.requestFor(name))
		f.Expect(err).NotTo(HaveOccurred())
		f.Expect(result.RequeueAfter).To(And(BeNumerically(">=", c.least), BeNumerically("<=", c.most)), name)
	}
}

// A workload that uses every field is applied once, and never again: nothing that the API server adds is a difference.
func TestWorkloadOfEveryFieldIsAppliedOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := v1alpha1.Workload{
		Image:              "registry.example.com/kube-mcp:v1",
		ImagePullSecrets:   []v1alpha1.LocalReference{{Name: "registry"}},
		ServiceAccountName: "viewer",
		Replicas:           new(int32(2)),
		Env: []v1alpha1.EnvVar{{Name: "REGION", ValueFrom: &v1alpha1.EnvVarSource{
			ConfigMapKeyRef: &v1alpha1.ConfigMapKeySelector{Name: "site", Key: "region", Optional: true},
		}}},
		EnvFrom: []v1alpha1.EnvFromSource{{ConfigMapRef: &v1alpha1.ConfigMapEnvSource{Name: "site", Optional: true}}},
		Volumes: []v1alpha1.Volume{
			{Name: "settings", ConfigMap: &v1alpha1.ConfigMapVolume{
				Name: "settings", Items: []v1alpha1.KeyToPath{{Key: "a", Path: "etc/.a"}}, Optional: true,
			}},
			{Name: "tokens", Projected: &v1alpha1.ProjectedVolume{Sources: []v1alpha1.VolumeProjection{
				{ServiceAccountToken: &v1alpha1.ServiceAccountTokenProjection{Path: "api"}},
				{ServiceAccountToken: &v1alpha1.ServiceAccountTokenProjection{Path: "vault", Audience: "vault", ExpirationSeconds: 600}},
				{ConfigMap: &v1alpha1.ConfigMapVolume{Name: "trust"}},
			}}},
		},
	}
	for _, path := range secretPaths() {
		path.use(&w, "token", false)
		path.use(&w, "absent", true)
		w.Volumes, w.VolumeMounts, w.Env = distinct(w)
	}
	viewer := &corev1.ServiceAccount{ObjectMeta: f.meta("viewer")}
	viewer.Labels = map[string]string{v1alpha1.WorkloadServiceAccountLabel: "true"}
	f.create(viewer, f.credential("token"), f.group("team"), f.backend("kube", workload(w)))
	d := f.eventuallyDeployed("kube")
	for name, path := range secretPaths() {
		f.Expect(path.reaches(d.Spec.Template.Spec, "token")).To(BeTrue(), name)
		f.Expect(path.reaches(d.Spec.Template.Spec, "absent")).To(BeFalse(), name)
	}
	f.Expect(d.Spec.Replicas).To(HaveValue(BeEquivalentTo(2)))
	f.Expect(d.Spec.Template.Spec.Volumes).To(HaveLen(len(w.Volumes)), "each mount finds its volume")
	f.eventuallyCounts("team", 1, 0)

	f.stop()
	before := f.resourceVersions()
	f.requests.forget()
	f.start()
	f.Eventually(f.secretRequests).ShouldNot(BeEmpty(), "it has been looked at")
	f.Consistently(f.requests.writes).Should(BeEmpty())
	f.Expect(f.resourceVersions()).To(Equal(before))
}

// distinct gives volumes, mounts and variables names that no other has.
func distinct(w v1alpha1.Workload) ([]v1alpha1.Volume, []v1alpha1.VolumeMount, []v1alpha1.EnvVar) {
	for i := range w.VolumeMounts {
		w.VolumeMounts[i].MountPath = "/mnt/" + string(rune('a'+i))
	}
	const first = 2
	for i := first; i < len(w.Volumes); i++ {
		w.Volumes[i].Name = "volume-" + string(rune('a'+i))
		w.VolumeMounts[i-first].Name = w.Volumes[i].Name
	}
	for i := range w.Env {
		w.Env[i].Name = "VARIABLE_" + string(rune('A'+i))
	}
	return w.Volumes, w.VolumeMounts, w.Env
}
