// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube"
)

// GroupField is the field of an MCPBackend that names its group. The CRD declares it selectable, so that the API server sends a
// runtime the backends of its own group only.
const GroupField = "spec.groupRef.name"

// secretPatience is how long a list waits for the answer about a Secret that was not asked for before. A backend that has to wait
// longer holds up no other.
const secretPatience = 5 * time.Second

// KubernetesOptions says what Kubernetes finds, and where. All fields are required.
type KubernetesOptions struct {
	// Backends, AuthConfigs and Secrets are clients of one namespace. Secrets are read by name only.
	Backends    kube.Lister[*v1alpha1.MCPBackendList]
	AuthConfigs kube.Lister[*v1alpha1.MCPExternalAuthConfigList]
	Secrets     kube.Getter[*corev1.Secret]
	// Group is the MCPGroup whose backends are found.
	Group string
	// Auth is the authentication that the gateway gives to backends.
	Auth v1alpha1.OutgoingAuth
	// Logger gets what goes wrong on the way.
	Logger *slog.Logger
}

// Kubernetes finds the MCPBackends of a group and their credentials by watches. It outlives any absence of the API server; what it
// found stays valid. A backend whose credentials cannot be used is refused, and the others are not affected.
func Kubernetes(o KubernetesOptions) Discoverer { return kubernetes{o} }

type kubernetes struct{ KubernetesOptions }

// Run implements Discoverer.
func (k kubernetes) Run(ctx context.Context, publish func([]backend.Target), fail func(error)) error {
	changes := make(chan func())
	f := &findings{
		options: k.KubernetesOptions,
		secrets: &secrets{client: k.Secrets, logger: k.Logger, changes: changes, byName: map[string]*secret{}},
	}
	var following sync.WaitGroup
	defer f.secrets.running.Wait()
	defer following.Wait()
	following.Go(func() {
		kube.FollowList(ctx, k.Logger, k.Backends, fields.OneTermEqualSelector(GroupField, k.Group).String(),
			func(objects map[string]*v1alpha1.MCPBackend) {
				objects = maps.Clone(objects)
				send(ctx, changes, func() { f.backends, f.failed = objects, false })
			},
			func(err error) {
				send(ctx, changes, func() {
					f.failed, f.published = true, false
					fail(fmt.Errorf("listing the MCPBackends of group %q: %w", k.Group, err))
				})
			})
	})
	following.Go(func() {
		kube.FollowList(ctx, k.Logger, k.AuthConfigs, "",
			func(objects map[string]*v1alpha1.MCPExternalAuthConfig) {
				objects = maps.Clone(objects)
				send(ctx, changes, func() { f.setConfigs(ctx, objects) })
			},
			func(err error) { send(ctx, changes, func() { f.configsError = err }) })
	})
	patience := time.NewTimer(secretPatience)
	defer patience.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case change := <-changes:
			change()
		case <-patience.C:
		}
		if wait := f.tell(ctx, time.Now(), publish); wait > 0 {
			patience.Reset(wait)
		}
	}
}

// findings are what is known of backends and their credentials. One goroutine owns them.
type findings struct {
	options KubernetesOptions

	backends map[string]*v1alpha1.MCPBackend // nil: not listed yet
	failed   bool                            // the backends cannot be listed at present

	configs      map[string]*v1alpha1.MCPExternalAuthConfig // nil: not listed yet
	configsError error
	secrets      *secrets
	waitingSince time.Time // for Secrets; zero: for none

	last      []backend.Target
	published bool
}

func (f *findings) setConfigs(ctx context.Context, configs map[string]*v1alpha1.MCPExternalAuthConfig) {
	for name, config := range configs {
		if ready(config) == metav1.ConditionTrue && (f.configs[name] == nil || ready(f.configs[name]) != metav1.ConditionTrue) {
			for _, secret := range config.Spec.SecretNames() {
				f.secrets.retry(ctx, secret) // its Role was just filled
			}
		}
	}
	f.configs, f.configsError = configs, nil
}

// tell publishes the list if it is complete and new. It says after what time it is to be called again although nothing happened; 0
// means never.
func (f *findings) tell(ctx context.Context, now time.Time, publish func([]backend.Target)) time.Duration {
	if f.backends == nil || f.failed || f.configs == nil && f.configsError == nil {
		return 0
	}
	names := map[string]bool{}
	for _, b := range f.backends {
		for _, name := range f.choose(b).Spec.SecretNames() {
			names[name] = true
		}
	}
	f.secrets.want(ctx, names)
	if wait := f.wait(now); wait > 0 {
		return wait
	}
	targets := make([]backend.Target, 0, len(f.backends))
	for _, b := range f.backends {
		targets = append(targets, Authenticate(TargetOf(b), f.choose(b), f.credential))
	}
	slices.SortFunc(targets, func(a, b backend.Target) int { return a.Compare(b.Key) })
	if !f.published || !slices.Equal(f.last, targets) { // else a change of labels, or of a status
		f.last, f.published = targets, true
		publish(targets)
	}
	return 0
}

// wait says how long to wait for the Secrets that the API server has not answered about.
func (f *findings) wait(now time.Time) time.Duration {
	for _, s := range f.secrets.byName {
		if s.pending() {
			if f.waitingSince.IsZero() {
				f.waitingSince = now
			}
			return secretPatience - now.Sub(f.waitingSince)
		}
	}
	f.waitingSince = time.Time{}
	return 0
}

// choose is the authentication for a backend.
func (f *findings) choose(b *v1alpha1.MCPBackend) v1alpha1.ResolvedAuth {
	chosen := f.options.Auth.Resolve(b.Name, b.Spec.ExternalAuthConfigRef, func(name string) *v1alpha1.MCPExternalAuthConfig { return f.configs[name] })
	if chosen.Config != "" && f.configs == nil {
		chosen.Reason = v1alpha1.ReasonSecretUnreadable
		chosen.Message = fmt.Sprintf("MCPExternalAuthConfig %q cannot be read: %v", chosen.Config, f.configsError)
	}
	return chosen
}

// credential takes a credential out of the Secret that a strategy names.
func (f *findings) credential(s auth.Strategy) (auth.Credential, error) {
	entry := f.secrets.byName[s.Header.SecretRef.Name]
	switch {
	case entry == nil || entry.pending():
		return auth.Credential{}, s.Unreadable("the API server has not answered yet")
	case entry.err != nil:
		// The runtime may read a Secret only once it is labelled. Why it may not, the operator knows better.
		if config := f.configs[s.Config]; ready(config) == metav1.ConditionFalse {
			condition := meta.FindStatusCondition(config.Status.Conditions, v1alpha1.ConditionReady)
			return auth.Credential{}, &auth.UnusableError{Reason: condition.Reason, Message: condition.Message}
		}
		return auth.Credential{}, s.Unreadable(entry.err.Error())
	default:
		return s.FromSecret(entry.object)
	}
}

// ready is the status of the condition Ready, if it is about the present spec.
func ready(config *v1alpha1.MCPExternalAuthConfig) metav1.ConditionStatus {
	if config == nil {
		return metav1.ConditionUnknown
	}
	condition := meta.FindStatusCondition(config.Status.Conditions, v1alpha1.ConditionReady)
	if condition == nil || condition.ObservedGeneration != config.Generation {
		return metav1.ConditionUnknown
	}
	return condition.Status
}
