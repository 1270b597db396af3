// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	vmcpac "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

func statusOf(t *testing.T, text string) *vmcpac.VirtualMCPServerStatusApplyConfiguration {
	t.Helper()
	s := vmcpac.VirtualMCPServerStatus()
	if err := json.Unmarshal([]byte(text), s); err != nil {
		t.Fatal(err)
	}
	return s
}

// The messages and causes are those of kube-apiserver v1.36.
func notTypedError(problems string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Code: 500, Message: "failed to create typed patch object (ns/team; vmcp.dev/v1alpha1, Kind=VirtualMCPServer): " + problems}}
}

func invalidError(causes ...metav1.StatusCause) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Code: 422, Reason: metav1.StatusReasonInvalid, Details: &metav1.StatusDetails{Causes: causes}}}
}

func TestRefused(t *testing.T) {
	const whole = `{"phase":"Ready","catalog":{"tools":1,"prompts":2},"conditions":[{"type":"Ready","reason":"A"},{"type":"CatalogReady","reason":"B"}],` +
		`"discoveredBackends":[{"kind":"K","name":"a","status":"ready","message":"short"},{"kind":"K","name":"b","status":"degraded","message":"längere"}]}`
	for name, c := range map[string]struct {
		err  error
		want string // empty: there is nothing to learn
	}{
		"unknown field": {
			notTypedError(`.status.catalog.prompts: field not declared in schema`),
			`{"phase":"Ready","catalog":{"tools":1},"conditions":[{"type":"Ready","reason":"A"},{"type":"CatalogReady","reason":"B"}],` +
				`"discoveredBackends":[{"kind":"K","name":"a","status":"ready","message":"short"},{"kind":"K","name":"b","status":"degraded","message":"längere"}]}`,
		},
		"several, in items and of another type": {
			notTypedError("errors:\n  .status.discoveredBackends[kind=\"K\",name=\"a\"].message: field not declared in schema\n" +
				"  .status.phase: expected numeric (int or float), got string\n  .status.catalog: field not declared in schema"),
			`{"conditions":[{"type":"Ready","reason":"A"},{"type":"CatalogReady","reason":"B"}],` +
				`"discoveredBackends":[{"kind":"K","name":"a","status":"ready"},{"kind":"K","name":"b","status":"degraded"}]}`,
		},
		"a value of an enum": {
			invalidError(metav1.StatusCause{
				Type: metav1.CauseTypeFieldValueNotSupported, Field: "status.discoveredBackends[7].status",
				Message: `Unsupported value: "degraded": supported values: "ready", "unknown"`,
			}),
			`{"phase":"Ready","catalog":{"tools":1,"prompts":2},"conditions":[{"type":"Ready","reason":"A"},{"type":"CatalogReady","reason":"B"}],` +
				`"discoveredBackends":[{"kind":"K","name":"a","status":"ready","message":"short"},{"kind":"K","name":"b","message":"längere"}]}`,
		},
		"a text, whose length is in characters": {
			invalidError(metav1.StatusCause{
				Type: "FieldValueTooLong", Field: "status.discoveredBackends[0].message", Message: "Too long: may not be more than 6 bytes",
			}),
			`{"phase":"Ready","catalog":{"tools":1,"prompts":2},"conditions":[{"type":"Ready","reason":"A"},{"type":"CatalogReady","reason":"B"}],` +
				`"discoveredBackends":[{"kind":"K","name":"a","status":"ready","message":"short"},{"kind":"K","name":"b","status":"degraded"}]}`,
		},
		"a list": {
			invalidError(metav1.StatusCause{
				Type: "FieldValueTooMany", Field: "status.discoveredBackends", Message: "Too many: 2: must have at most 1 items",
			}),
			`{"phase":"Ready","catalog":{"tools":1,"prompts":2},"conditions":[{"type":"Ready","reason":"A"},{"type":"CatalogReady","reason":"B"}],` +
				`"discoveredBackends":[{"kind":"K","name":"a","status":"ready","message":"short"}]}`,
		},
		"the key of an item": {
			invalidError(metav1.StatusCause{
				Type: metav1.CauseTypeFieldValueNotSupported, Field: "status.conditions[1].type", Message: `Unsupported value: "CatalogReady": supported values: "Ready"`,
			}),
			`{"phase":"Ready","catalog":{"tools":1,"prompts":2},"conditions":[{"type":"Ready","reason":"A"}],` +
				`"discoveredBackends":[{"kind":"K","name":"a","status":"ready","message":"short"},{"kind":"K","name":"b","status":"degraded","message":"längere"}]}`,
		},
		"what is missing": {
			invalidError(metav1.StatusCause{Type: metav1.CauseTypeFieldValueRequired, Field: "status.catalog.resources", Message: "Required value"}),
			`{"phase":"Ready","conditions":[{"type":"Ready","reason":"A"},{"type":"CatalogReady","reason":"B"}],` +
				`"discoveredBackends":[{"kind":"K","name":"a","status":"ready","message":"short"},{"kind":"K","name":"b","status":"degraded","message":"längere"}]}`,
		},
		"a field of another": {
			err: invalidError(metav1.StatusCause{Type: metav1.CauseTypeFieldValueInvalid, Field: "status.url", Message: "Invalid value"}),
		},
		"the spec": {
			err: invalidError(metav1.StatusCause{Type: metav1.CauseTypeFieldValueInvalid, Field: "spec.catalog", Message: "Invalid value"}),
		},
		"a conflict":         {err: apierrors.NewConflict(metav1.Unversioned.WithResource("x").GroupResource(), "team", errors.New("changed"))},
		"no answer":          {err: errors.New(".status.phase: field not declared in schema")},
		"something internal": {err: apierrors.NewInternalError(errors.New(".status.phase: field not declared in schema"))},
	} {
		t.Run(name, func(t *testing.T) {
			var f refused
			now := time.Now()
			learned := f.learn(c.err, statusOf(t, whole), now, slog.New(slog.DiscardHandler))
			if learned != (c.want != "") {
				t.Fatalf("there is something to learn: %t", learned)
			}
			if !learned {
				return
			}
			got, err := f.prune(statusOf(t, whole), now)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(statusOf(t, c.want), got); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
			if f.learn(c.err, got, now, slog.New(slog.DiscardHandler)) {
				t.Error("what was left out is learnt again, which would make the reporter try for ever")
			}
		})
	}
}

func TestRefused_TriesAgainAfterAnHourAndLogsOnce(t *testing.T) {
	var (
		f     refused
		log   bytes.Buffer
		now   = time.Now()
		learn = func(now time.Time) {
			f.learn(notTypedError(`.status.catalog: field not declared in schema`), statusOf(t, `{"catalog":{"tools":1}}`), now, slog.New(slog.NewTextHandler(&log, nil)))
		}
		pruned = func(now time.Time) bool {
			s, err := f.prune(statusOf(t, `{"catalog":{"tools":1}}`), now)
			if err != nil {
				t.Fatal(err)
			}
			return s.Catalog == nil
		}
	)
	learn(now)
	if !pruned(now.Add(59 * time.Minute)) {
		t.Error("the refused field is sent again too early")
	}
	if wait := f.until(now.Add(59 * time.Minute)); wait != time.Minute {
		t.Errorf("it is tried again in %s, want in a minute", wait)
	}
	later := now.Add(time.Hour)
	if pruned(later) {
		t.Error("the field is not tried again after an hour")
	}
	learn(later)
	if !pruned(later.Add(time.Minute)) {
		t.Error("what was refused a second time is not left out")
	}
	if n := strings.Count(log.String(), "field=status.catalog"); n != 1 {
		t.Errorf("the field was logged %d times:\n%s", n, log.String())
	}
}

// The issues of the catalog are a list within an object: it can be refused whole, from some length on, or in one of its keys.
func TestRefused_CatalogIssues(t *testing.T) {
	const (
		whole = `{"catalog":{"tools":1,"issueCount":2,"issues":[{"reason":"A","kind":"tool","backend":"b","name":"x"},{"reason":"B","kind":"tool","backend":"b","name":"x"}]}}`
		one   = `{"catalog":{"tools":1,"issueCount":2,"issues":[{"reason":"A","kind":"tool","backend":"b","name":"x"}]}}`
		none  = `{"catalog":{"tools":1}}`
	)
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"the CRD is older": {notTypedError("errors:\n  .status.catalog.issueCount: field not declared in schema\n  .status.catalog.issues: field not declared in schema"), none},
		"too many": {invalidError(metav1.StatusCause{
			Type: "FieldValueTooMany", Field: "status.catalog.issues", Message: "Too many: 2: must have at most 1 items",
		}), one},
		"a reason that it does not know": {invalidError(metav1.StatusCause{
			Type: metav1.CauseTypeFieldValueNotSupported, Field: "status.catalog.issues[1].reason", Message: `Unsupported value: "B": supported values: "A"`,
		}), one},
	} {
		t.Run(name, func(t *testing.T) {
			var f refused
			if !f.learn(c.err, statusOf(t, whole), time.Now(), slog.New(slog.DiscardHandler)) {
				t.Fatal("nothing was learnt")
			}
			got, err := f.prune(statusOf(t, whole), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(statusOf(t, c.want), got); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
		})
	}
}
