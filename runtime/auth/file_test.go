// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package auth_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
)

// mountSecret lays a Secret out as the kubelet does: keys are links into a folder that a link names, so that all change at once.
func mountSecret(t *testing.T, dir, name string, data map[string]string) {
	t.Helper()
	folder := filepath.Join(dir, name, "..2026")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	link := func(target, name string) {
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
	link("..2026", filepath.Join(dir, name, "..data"))
	for key, value := range data {
		if err := os.WriteFile(filepath.Join(folder, key), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
		link(filepath.Join("..data", key), filepath.Join(dir, name, key))
	}
}

func TestFromFile(t *testing.T) {
	outside := t.TempDir()
	dir := filepath.Join(outside, "credentials")
	mountSecret(t, outside, "foreign", map[string]string{"value": "foreign"})
	mountSecret(t, dir, "token", map[string]string{"value": "Bearer x\n", "lines": "a\nb"})
	mountSecret(t, dir, "empty", nil)
	for name, tc := range map[string]struct {
		secret, key string
		value       string
		reason      string // of the UnusableError, when there is one
	}{
		"a value":              {secret: "token", key: "value", value: "Bearer x"},
		"no such key":          {secret: "token", key: "other", reason: v1alpha1.ReasonSecretKeyNotFound},
		"no such Secret":       {secret: "empty", key: "value", reason: v1alpha1.ReasonSecretNotFound},
		"not mounted":          {secret: "absent", key: "value", reason: v1alpha1.ReasonSecretNotFound},
		"no value of a header": {secret: "token", key: "lines", reason: v1alpha1.ReasonSecretUnusable},
		"out of the folder":    {secret: "../foreign", key: "value", reason: v1alpha1.ReasonSecretUnreadable},
	} {
		t.Run(name, func(t *testing.T) {
			s := auth.Strategy{Config: "c", Type: v1alpha1.ExternalAuthTypeHeaderInjection, Header: v1alpha1.HeaderInjection{
				HeaderName: "Authorization", SecretRef: v1alpha1.SecretKeyReference{Name: tc.secret, Key: tc.key},
			}}
			got, err := s.FromFile(dir)
			if tc.reason == "" {
				if err != nil || got != auth.NewCredential(tc.value) {
					t.Fatalf("got another credential, %v", err)
				}
				return
			}
			problem, ok := errors.AsType[*auth.UnusableError](err)
			if !ok || problem.Reason != tc.reason || !got.IsZero() {
				t.Fatalf("got %v, want %s", err, tc.reason)
			}
		})
	}
}
