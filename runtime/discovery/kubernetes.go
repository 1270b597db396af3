// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube"
)

// GroupField is the field of an MCPBackend that names its group. The CRD declares it selectable, so that the API server sends a
// runtime the backends of its own group only.
const GroupField = "spec.groupRef.name"

// secretPatience is how long a list waits for the answer about a Secret that was not asked for before. A backend that has to wait
// longer holds up no other.
const secretPatience = 5 * time.Second

// KubernetesOptions says what Kubernetes finds, and where. All fields but Discovery are required.
type KubernetesOptions struct {
	// Clients are those of one namespace. Secrets are read by name only.
	Clients *kube.Clients
	// Group is the MCPGroup whose backends are found, Discovery the kinds that join it by a label.
	Group     string
	Discovery v1alpha1.GroupDiscovery
	// Auth is the authentication that the gateway gives to backends.
	Auth v1alpha1.OutgoingAuth
	// Logger gets what goes wrong on the way.
	Logger *slog.Logger
}

// Kubernetes finds the members of a group and their credentials by watches. It outlives any absence of the API server; what it
// found stays valid. A backend whose credentials cannot be used is refused, and the others are not affected.
func Kubernetes(o KubernetesOptions) Discoverer { return kubernetes{o} }

type kubernetes struct{ KubernetesOptions }

// Run implements Discoverer.
func (k kubernetes) Run(ctx context.Context, publish func(Finding)) error {
	changes := make(chan func())
	f := &findings{
		options: k.KubernetesOptions,
		secrets: &secrets{client: k.Clients.Secrets, logger: k.Logger, changes: changes, byName: map[string]*secret{}},
	}
	var following sync.WaitGroup
	defer f.secrets.running.Wait()
	defer following.Wait()
	follow := func(run func()) { following.Go(run) }
	follow(func() {
		kube.FollowList(ctx, k.Logger, k.Clients.MCPBackends, kube.Selector{Field: fields.OneTermEqualSelector(GroupField, k.Group).String()},
			listed(ctx, changes, &f.backends), failed(ctx, changes, &f.backends))
	})
	follow(func() {
		kube.FollowList(ctx, k.Logger, k.Clients.MCPExternalAuthConfigs, kube.Selector{},
			func(objects map[string]*v1alpha1.MCPExternalAuthConfig) {
				objects = maps.Clone(objects)
				send(ctx, changes, func() { f.setConfigs(ctx, objects) })
			},
			failed(ctx, changes, &f.configs))
	})
	labelled := kube.Selector{Label: labels.Set{v1alpha1.GroupLabel: k.Group}.String()}
	if k.Discovery.Services == v1alpha1.DiscoveryLabelled {
		follow(func() {
			kube.FollowList(ctx, k.Logger, k.Clients.Services, labelled,
				listed(ctx, changes, &f.services), failed(ctx, changes, &f.services))
		})
	}
	if k.Discovery.MCPServers == v1alpha1.DiscoveryLabelled {
		follow(func() {
			k.Clients.MCPServers.Follow(ctx, k.Logger, labelled,
				listed(ctx, changes, &f.mcpServers), failed(ctx, changes, &f.mcpServers))
		})
	}
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

// source is what is known of the objects of one kind.
type source[T kube.Object] struct {
	objects map[string]T
	listed  bool
	err     error // why they cannot be read at present
}

// settled says that there is no use in waiting for the objects.
func (s source[T]) settled() bool { return s.listed || s.err != nil }

func listed[T kube.Object](ctx context.Context, changes chan<- func(), s *source[T]) func(map[string]T) {
	return func(objects map[string]T) {
		objects = maps.Clone(objects)
		send(ctx, changes, func() { *s = source[T]{objects: objects, listed: true} })
	}
}

// failed keeps what was read: it stays good while it cannot be read again.
func failed[T kube.Object](ctx context.Context, changes chan<- func(), s *source[T]) func(error) {
	return func(err error) { send(ctx, changes, func() { s.err = err }) }
}

// findings are what is known of backends and their credentials. One goroutine owns them.
type findings struct {
	options KubernetesOptions

	backends   source[*v1alpha1.MCPBackend]
	services   source[*corev1.Service]
	mcpServers source[*unstructured.Unstructured]

	configs      source[*v1alpha1.MCPExternalAuthConfig]
	secrets      *secrets
	waitingSince time.Time // for Secrets; zero: for none

	told      Finding
	published bool
}

func (f *findings) setConfigs(ctx context.Context, configs map[string]*v1alpha1.MCPExternalAuthConfig) {
	for name, config := range configs {
		if before := f.configs.objects[name]; ready(config) == metav1.ConditionTrue && (before == nil || ready(before) != metav1.ConditionTrue) {
			for _, secret := range config.Spec.SecretNames() {
				f.secrets.retry(ctx, secret) // its Role was just filled
			}
		}
	}
	f.configs = source[*v1alpha1.MCPExternalAuthConfig]{objects: configs, listed: true}
}

// tell publishes the finding if it is new and there is no use in waiting for more. It says after what time it is to be called again although
// nothing happened; 0 means never.
func (f *findings) tell(ctx context.Context, now time.Time, publish func(Finding)) time.Duration {
	discovery := f.options.Discovery
	if !f.backends.settled() || !f.configs.settled() ||
		discovery.Services == v1alpha1.DiscoveryLabelled && !f.services.settled() ||
		discovery.MCPServers == v1alpha1.DiscoveryLabelled && !f.mcpServers.settled() {
		return 0
	}
	finding := Finding{Complete: f.backends.listed, Problem: f.problem()}
	if finding.Complete {
		members := f.members()
		names := map[string]bool{}
		for _, m := range members {
			for _, name := range f.choose(m).Spec.SecretNames() {
				names[name] = true
			}
		}
		f.secrets.want(ctx, names)
		if wait := f.wait(now); wait > 0 {
			return wait
		}
		for _, m := range members {
			finding.Targets = append(finding.Targets, Authenticate(TargetOf(m), f.choose(m), f.credential))
		}
	}
	if !f.published || !finding.equal(f.told) { // else a change of labels, or of a status
		f.told, f.published = finding, true
		publish(finding)
	}
	return 0
}

func (f Finding) equal(o Finding) bool {
	return f.Complete == o.Complete && slices.Equal(f.Targets, o.Targets) && fmt.Sprint(f.Problem) == fmt.Sprint(o.Problem)
}

// problem is why something cannot be read.
func (f *findings) problem() error {
	var problems []error
	for _, p := range []struct {
		what string
		err  error
	}{{"MCPBackends", f.backends.err}, {"Services", f.services.err}, {"MCPServers", f.mcpServers.err}} {
		if p.err != nil {
			problems = append(problems, fmt.Errorf("listing the %s of group %q: %w", p.what, f.options.Group, p.err))
		}
	}
	return errors.Join(problems...)
}

// members are the members of the group in their one order.
func (f *findings) members() []v1alpha1.Member {
	var members []v1alpha1.Member
	for _, b := range f.backends.objects {
		members = append(members, b.Member())
	}
	for _, s := range f.services.objects {
		if v1alpha1.Joins(s, f.options.Group) {
			members = append(members, v1alpha1.ServiceMember(s))
		}
	}
	for _, s := range f.mcpServers.objects {
		if v1alpha1.Joins(s, f.options.Group) {
			members = append(members, v1alpha1.MCPServerMember(s))
		}
	}
	return v1alpha1.Members(members...)
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

// choose is the authentication for a member.
func (f *findings) choose(m v1alpha1.Member) v1alpha1.ResolvedAuth {
	chosen := m.ResolveAuth(f.options.Auth, func(name string) *v1alpha1.MCPExternalAuthConfig { return f.configs.objects[name] })
	if chosen.Config != "" && !f.configs.listed {
		chosen.Reason = v1alpha1.ReasonSecretUnreadable
		chosen.Message = fmt.Sprintf("MCPExternalAuthConfig %q cannot be read: %v", chosen.Config, f.configs.err)
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
		if config := f.configs.objects[s.Config]; ready(config) == metav1.ConditionFalse {
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
