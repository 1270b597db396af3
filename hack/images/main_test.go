// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBuildCommand(t *testing.T) {
	dir := t.TempDir()
	for file, content := range map[string]string{"Dockerfile": "FROM scratch AS runtime\nCOPY app /app\nENTRYPOINT [\"/app\"]", "app": "APP"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var stdout, stderr bytes.Buffer
	out := filepath.Join(dir, "runtime.tar")
	args := []string{"build", "-f", filepath.Join(dir, "Dockerfile"), "-context", dir, "-target", "runtime", "-t", "example.com/app:dev", "-o", out}
	if err := run(t.Context(), args, &stdout, &stderr); err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	if got := stdout.String(); !strings.HasPrefix(got, "example.com/app:dev@sha256:") {
		t.Errorf("printed %q", got)
	}
	if _, err := os.Stat(out); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".runtime.tar.*"))
	if err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}

func TestBadCommandLines(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"nothing":         {nil, "images build"},
		"unknown":         {[]string{"bake"}, "images build"},
		"no name":         {[]string{"build", "-o", "x.tar"}, "-t is required"},
		"no output":       {[]string{"build", "-t", "a:1"}, "-o is required"},
		"extra argument":  {[]string{"build", "-t", "a:1", "-o", "x.tar", "."}, `unexpected argument "."`},
		"bad build arg":   {[]string{"build", "-build-arg", "A"}, `"A" is not NAME=VALUE`},
		"no push target":  {[]string{"push", "-archive", "x"}, "-to is required"},
		"index of none":   {[]string{"index", "-t", "a:1", "-o", "x.tar"}, "-archive is required"},
		"unknown of push": {[]string{"push", "-force"}, "flag provided but not defined"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			err := run(t.Context(), c.args, &stdout, &stderr)
			if !errors.Is(err, errUsage) || !strings.Contains(stderr.String(), c.want) {
				t.Errorf("got %v and %q, want a usage error with %q", err, &stderr, c.want)
			}
		})
	}
}
