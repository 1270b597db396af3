// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	acv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

// soleStatus is the status of an object of a kind with one writer, the operator: all but VirtualMCPServer, whose status has two.
type soleStatus[S any] struct {
	object client.Object
	// have is what our field manager owns of the status that is there; nil is nothing.
	have *S
	// conditions are those of a status.
	conditions func(*S) *[]metav1ac.ConditionApplyConfiguration
	// apply is the request that makes a status that of the object.
	apply func(*S) runtime.ApplyConfiguration
}

// write applies want if it differs from what is there, and tells what changed.
func (w soleStatus[S]) write(ctx context.Context, c Client, want *S) error {
	after := w.conditions(want)
	*after = sortConditions(*after)
	var before []metav1ac.ConditionApplyConfiguration
	if w.have != nil {
		have := w.conditions(w.have)
		*have = sortConditions(*have)
		before = *have
	}
	written, err := applyStatus(ctx, c, kindOf(w.object), w.have, want, func() runtime.ApplyConfiguration { return w.apply(want) })
	if err != nil || !written {
		return err
	}
	c.announce(w.object, before, *after)
	return nil
}

// leaveAlone says that the object is paused, and nothing else.
func (w soleStatus[S]) leaveAlone(ctx context.Context, c Client, at time.Time) error {
	if !pausedUntold(w.object) {
		return nil
	}
	want := new(S)
	if w.have != nil {
		*want = *w.have
	}
	conditions := w.conditions(want)
	*conditions = withPaused(*conditions, w.object.GetGeneration(), at)
	return w.write(ctx, c, want)
}

func statusOfGroup(g *v1alpha1.MCPGroup) (soleStatus[acv1alpha1.MCPGroupStatusApplyConfiguration], error) {
	type status = acv1alpha1.MCPGroupStatusApplyConfiguration
	have, err := acv1alpha1.ExtractMCPGroupStatus(g, v1alpha1.OperatorFieldManager)
	if err != nil {
		return soleStatus[status]{}, unreadable(err)
	}
	return soleStatus[status]{
		object: g, have: have.Status,
		conditions: func(s *status) *[]metav1ac.ConditionApplyConfiguration { return &s.Conditions },
		apply: func(s *status) runtime.ApplyConfiguration {
			return acv1alpha1.MCPGroup(g.Name, g.Namespace).WithResourceVersion(g.ResourceVersion).WithStatus(s)
		},
	}, nil
}

func statusOfBackend(b *v1alpha1.MCPBackend) (soleStatus[acv1alpha1.MCPBackendStatusApplyConfiguration], error) {
	type status = acv1alpha1.MCPBackendStatusApplyConfiguration
	have, err := acv1alpha1.ExtractMCPBackendStatus(b, v1alpha1.OperatorFieldManager)
	if err != nil {
		return soleStatus[status]{}, unreadable(err)
	}
	return soleStatus[status]{
		object: b, have: have.Status,
		conditions: func(s *status) *[]metav1ac.ConditionApplyConfiguration { return &s.Conditions },
		apply: func(s *status) runtime.ApplyConfiguration {
			return acv1alpha1.MCPBackend(b.Name, b.Namespace).WithResourceVersion(b.ResourceVersion).WithStatus(s)
		},
	}, nil
}

func statusOfAuthConfig(c *v1alpha1.MCPExternalAuthConfig) (soleStatus[acv1alpha1.MCPExternalAuthConfigStatusApplyConfiguration], error) {
	type status = acv1alpha1.MCPExternalAuthConfigStatusApplyConfiguration
	have, err := acv1alpha1.ExtractMCPExternalAuthConfigStatus(c, v1alpha1.OperatorFieldManager)
	if err != nil {
		return soleStatus[status]{}, unreadable(err)
	}
	return soleStatus[status]{
		object: c, have: have.Status,
		conditions: func(s *status) *[]metav1ac.ConditionApplyConfiguration { return &s.Conditions },
		apply: func(s *status) runtime.ApplyConfiguration {
			return acv1alpha1.MCPExternalAuthConfig(c.Name, c.Namespace).WithResourceVersion(c.ResourceVersion).WithStatus(s)
		},
	}, nil
}

// unreadable is the error of managed fields that cannot be read.
func unreadable(err error) error {
	return fmt.Errorf("reading the managed fields of the status: %w", err)
}
