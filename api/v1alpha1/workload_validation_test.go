// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"fmt"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

func secretKey(name, key string) *v1alpha1.EnvVarSource {
	return &v1alpha1.EnvVarSource{SecretKeyRef: &v1alpha1.SecretKeySelector{Name: name, Key: key}}
}

func envFrom(sources ...v1alpha1.EnvFromSource) v1alpha1.Workload {
	return v1alpha1.Workload{EnvFrom: sources}
}

func volume(v v1alpha1.Volume) v1alpha1.Workload {
	v.Name = "data"
	return v1alpha1.Workload{Volumes: []v1alpha1.Volume{v}}
}

func secretItems(items ...v1alpha1.KeyToPath) v1alpha1.Workload {
	return volume(v1alpha1.Volume{Secret: &v1alpha1.SecretVolume{SecretName: "keys", Items: items}})
}

func projected(sources ...v1alpha1.VolumeProjection) v1alpha1.Workload {
	return volume(v1alpha1.Volume{Projected: &v1alpha1.ProjectedVolume{Sources: sources}})
}

func token(t v1alpha1.ServiceAccountTokenProjection) v1alpha1.Workload {
	w := projected(v1alpha1.VolumeProjection{ServiceAccountToken: &t})
	w.ServiceAccountName = "viewer"
	return w
}

func TestWorkloadValidation(t *testing.T) {
	const (
		oneValue  = "a variable has value or valueFrom, not both"
		oneRef    = "valueFrom has exactly one of secretKeyRef and configMapKeyRef"
		oneFrom   = "an entry of envFrom has exactly one of secretRef and configMapRef"
		oneVolume = "a volume has exactly one of emptyDir, configMap, secret, persistentVolumeClaim and projected"
		oneSource = "a source of a projected volume has exactly one of secret, configMap and serviceAccountToken"
		account   = "a serviceAccountToken needs workload.serviceAccountName"
		inSecret  = "spec.workload.volumes[0].secret."
		inSource  = "spec.workload.volumes[0].projected.sources[0]."
	)
	for title, c := range map[string]struct {
		workload v1alpha1.Workload
		// want is part of the API server's message; "" means that the object is accepted.
		want string
	}{
		"pull secrets": {workload: v1alpha1.Workload{ImagePullSecrets: []v1alpha1.LocalReference{{Name: "a"}, {Name: "b"}}}},
		"pull secret twice": {workload: v1alpha1.Workload{ImagePullSecrets: []v1alpha1.LocalReference{{Name: "a"}, {Name: "a"}}},
			want: "Duplicate value"},
		"pull secret of no name": {workload: v1alpha1.Workload{ImagePullSecrets: []v1alpha1.LocalReference{{}}},
			want: "spec.workload.imagePullSecrets[0].name"},
		"too many pull secrets": {workload: v1alpha1.Workload{ImagePullSecrets: func() (names []v1alpha1.LocalReference) {
			for i := range 17 {
				names = append(names, v1alpha1.LocalReference{Name: fmt.Sprintf("s%d", i)})
			}
			return names
		}()}, want: "spec.workload.imagePullSecrets"},
		"no pods":           {workload: v1alpha1.Workload{Replicas: new(int32(0))}},
		"most pods":         {workload: v1alpha1.Workload{Replicas: new(int32(100))}},
		"too many pods":     {workload: v1alpha1.Workload{Replicas: new(int32(101))}, want: "spec.workload.replicas"},
		"less than no pods": {workload: v1alpha1.Workload{Replicas: new(int32(-1))}, want: "spec.workload.replicas"},
		"environment": {workload: v1alpha1.Workload{
			Env: []v1alpha1.EnvVar{
				{Name: "A", ValueFrom: secretKey("token", "a.b_c-d")},
				{Name: "B", ValueFrom: &v1alpha1.EnvVarSource{ConfigMapKeyRef: &v1alpha1.ConfigMapKeySelector{Name: "site", Key: "b", Optional: true}}},
				{Name: "C"},
			},
			EnvFrom: []v1alpha1.EnvFromSource{
				{SecretRef: &v1alpha1.SecretEnvSource{Name: "token", Optional: true}},
				{Prefix: "SITE_", ConfigMapRef: &v1alpha1.ConfigMapEnvSource{Name: "site"}},
			},
		}},
		"value and valueFrom": {workload: v1alpha1.Workload{Env: []v1alpha1.EnvVar{{Name: "A", Value: "a", ValueFrom: secretKey("a", "a")}}},
			want: oneValue},
		"valueFrom of nothing": {workload: v1alpha1.Workload{Env: []v1alpha1.EnvVar{{Name: "A", ValueFrom: &v1alpha1.EnvVarSource{}}}},
			want: oneRef},
		"valueFrom of two": {workload: v1alpha1.Workload{Env: []v1alpha1.EnvVar{{Name: "A", ValueFrom: &v1alpha1.EnvVarSource{
			SecretKeyRef:    &v1alpha1.SecretKeySelector{Name: "a", Key: "a"},
			ConfigMapKeyRef: &v1alpha1.ConfigMapKeySelector{Name: "a", Key: "a"},
		}}}}, want: oneRef},
		"Secret of no name": {workload: v1alpha1.Workload{Env: []v1alpha1.EnvVar{{Name: "A", ValueFrom: secretKey("", "a")}}},
			want: "spec.workload.env[0].valueFrom.secretKeyRef.name"},
		"Secret without a key": {workload: v1alpha1.Workload{Env: []v1alpha1.EnvVar{{Name: "A", ValueFrom: secretKey("a", "")}}},
			want: "spec.workload.env[0].valueFrom.secretKeyRef.key"},
		"envFrom of nothing": {workload: envFrom(v1alpha1.EnvFromSource{Prefix: "A_"}), want: oneFrom},
		"envFrom of two": {workload: envFrom(v1alpha1.EnvFromSource{
			SecretRef: &v1alpha1.SecretEnvSource{Name: "a"}, ConfigMapRef: &v1alpha1.ConfigMapEnvSource{Name: "a"},
		}), want: oneFrom},
		"prefix of no variable": {workload: envFrom(v1alpha1.EnvFromSource{Prefix: "1 =", SecretRef: &v1alpha1.SecretEnvSource{Name: "a"}}),
			want: "spec.workload.envFrom[0].prefix"},
		"volumes": {workload: v1alpha1.Workload{ServiceAccountName: "viewer", Volumes: []v1alpha1.Volume{
			{Name: "a", Secret: &v1alpha1.SecretVolume{SecretName: "keys", Items: []v1alpha1.KeyToPath{{Key: "id", Path: ".ssh/id.pub"}}}},
			{Name: "b", ConfigMap: &v1alpha1.ConfigMapVolume{Name: "site", Items: []v1alpha1.KeyToPath{{Key: "id", Path: "a/b..c"}}}},
			{Name: "c", Projected: &v1alpha1.ProjectedVolume{Sources: []v1alpha1.VolumeProjection{
				{Secret: &v1alpha1.SecretProjection{Name: "keys"}},
				{ConfigMap: &v1alpha1.ConfigMapVolume{Name: "site"}},
				{ServiceAccountToken: &v1alpha1.ServiceAccountTokenProjection{Path: "token", Audience: "vault", ExpirationSeconds: 600}},
			}}},
		}}},
		"volume of nothing": {workload: volume(v1alpha1.Volume{}), want: oneVolume},
		"volume of two": {workload: volume(v1alpha1.Volume{
			Secret: &v1alpha1.SecretVolume{SecretName: "keys"}, EmptyDir: &v1alpha1.EmptyDirVolume{},
		}), want: oneVolume},
		"volume of a Secret of no name": {workload: volume(v1alpha1.Volume{Secret: &v1alpha1.SecretVolume{}}), want: inSecret + "secretName"},
		"file outside of the volume":    {workload: secretItems(v1alpha1.KeyToPath{Key: "a", Path: "a/../../b"}), want: inSecret + "items[0].path"},
		"absolute file":                 {workload: secretItems(v1alpha1.KeyToPath{Key: "a", Path: "/etc/passwd"}), want: inSecret + "items[0].path"},
		"file of the kubelet":           {workload: secretItems(v1alpha1.KeyToPath{Key: "a", Path: "..data"}), want: inSecret + "items[0].path"},
		"long file": {workload: secretItems(v1alpha1.KeyToPath{Key: "a", Path: strings.Repeat("a", 513)}),
			want: inSecret + "items[0].path"},
		"file twice": {workload: secretItems(v1alpha1.KeyToPath{Key: "a", Path: "a"}, v1alpha1.KeyToPath{Key: "b", Path: "a"}),
			want: "Duplicate value"},
		"projection of nothing": {workload: projected(), want: "spec.workload.volumes[0].projected.sources"},
		"source of nothing":     {workload: projected(v1alpha1.VolumeProjection{}), want: oneSource},
		"source of two": {workload: projected(v1alpha1.VolumeProjection{
			Secret: &v1alpha1.SecretProjection{Name: "a"}, ConfigMap: &v1alpha1.ConfigMapVolume{Name: "a"},
		}), want: oneSource},
		"source of no name": {workload: projected(v1alpha1.VolumeProjection{Secret: &v1alpha1.SecretProjection{}}),
			want: inSource + "secret.name"},
		"token without an account": {workload: projected(v1alpha1.VolumeProjection{
			ServiceAccountToken: &v1alpha1.ServiceAccountTokenProjection{Path: "token"},
		}), want: account},
		"token of no path":          {workload: token(v1alpha1.ServiceAccountTokenProjection{}), want: inSource + "serviceAccountToken.path"},
		"token that lives too long": {workload: token(v1alpha1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: 86401}), want: inSource + "serviceAccountToken.expirationSeconds"},
		"token that hardly lives":   {workload: token(v1alpha1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: 599}), want: inSource + "serviceAccountToken.expirationSeconds"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			b := backend(workload(c.workload))
			verify(t, b, c.want)
			agree(g, b.Validate(), c.want)
		})
	}
}

// What the schema cannot say about a workload is found before anything changes.
func TestWorkloadMistakesBeyondTheSchema(t *testing.T) {
	manySecrets := v1alpha1.Workload{}
	for i := range v1alpha1.MaxWorkloadSecrets {
		manySecrets.Env = append(manySecrets.Env, v1alpha1.EnvVar{
			Name: fmt.Sprintf("TOKEN_%d", i), ValueFrom: secretKey(fmt.Sprintf("s%d", i), "token"),
		})
	}
	manySecrets.EnvFrom = []v1alpha1.EnvFromSource{{SecretRef: &v1alpha1.SecretEnvSource{Name: "s0"}}}
	tooMany := manySecrets
	tooMany.Volumes = []v1alpha1.Volume{{Name: "data", Secret: &v1alpha1.SecretVolume{SecretName: "one-more"}}}
	samePath := []v1alpha1.KeyToPath{{Key: "a", Path: "token"}}
	for title, c := range map[string]struct {
		workload v1alpha1.Workload
		want     string
	}{
		"as many Secrets as may be, one of them twice": {manySecrets, ""},
		"too many Secrets": {tooMany, "spec.workload: Invalid value: \"33 Secrets\""},
		"name that no Secret can have": {envFrom(v1alpha1.EnvFromSource{SecretRef: &v1alpha1.SecretEnvSource{Name: "a/b"}}),
			"spec.workload.envFrom[0].secretRef.name"},
		"name that no ConfigMap can have": {volume(v1alpha1.Volume{ConfigMap: &v1alpha1.ConfigMapVolume{Name: "../b"}}),
			"spec.workload.volumes[0].configMap.name"},
		"key that no Secret can have": {v1alpha1.Workload{Env: []v1alpha1.EnvVar{{Name: "A", ValueFrom: secretKey("a", "../b")}}},
			"spec.workload.env[0].valueFrom.secretKeyRef.key"},
		"one file from two sources": {projected(
			v1alpha1.VolumeProjection{Secret: &v1alpha1.SecretProjection{Name: "a", Items: samePath}},
			v1alpha1.VolumeProjection{ConfigMap: &v1alpha1.ConfigMapVolume{Name: "a", Items: samePath}},
		), "spec.workload.volumes[0].projected.sources[1]"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			b := backend(workload(c.workload))
			verify(t, b, "")
			if c.want == "" {
				g.Expect(b.Validate()).To(BeEmpty())
				return
			}
			g.Expect(b.Validate().ToAggregate()).To(MatchError(ContainSubstring(c.want)))
		})
	}
}

func TestSecretUsesOfAWorkload(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	w := v1alpha1.Workload{
		ImagePullSecrets: []v1alpha1.LocalReference{{Name: "registry"}},
		Env:              []v1alpha1.EnvVar{{Name: "A", Value: "a"}, {Name: "B", ValueFrom: secretKey("token", "token")}},
		EnvFrom:          []v1alpha1.EnvFromSource{{SecretRef: &v1alpha1.SecretEnvSource{Name: "token", Optional: true}}},
		Volumes: []v1alpha1.Volume{
			{Name: "a", Secret: &v1alpha1.SecretVolume{SecretName: "keys", Optional: true}},
			{Name: "b", Projected: &v1alpha1.ProjectedVolume{Sources: []v1alpha1.VolumeProjection{
				{ConfigMap: &v1alpha1.ConfigMapVolume{Name: "site"}},
				{Secret: &v1alpha1.SecretProjection{Name: "client"}},
			}}},
		},
	}
	var uses []string
	for _, use := range w.SecretUses() {
		uses = append(uses, fmt.Sprintf("%s %s %t", use.Path, use.Name, use.Optional))
	}
	g.Expect(uses).To(Equal([]string{
		"spec.workload.env[1].valueFrom.secretKeyRef token false",
		"spec.workload.envFrom[0].secretRef token true",
		"spec.workload.volumes[0].secret keys true",
		"spec.workload.volumes[1].projected.sources[1].secret client false",
	}))
}
