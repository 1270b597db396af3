// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestBadCommandLines(t *testing.T) {
	t.Setenv("VMCP_CLUSTER_STATE", "/tmp/vmcp-test-none")
	t.Setenv("VMCP_CACHE", t.TempDir())
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"nothing":         {nil, "cluster up [node|cp|olm]"},
		"unknown":         {[]string{"start"}, `unknown command "start"`},
		"unknown stage":   {[]string{"up", "k3s"}, "want one of [node cp olm], got [k3s]"},
		"two stages":      {[]string{"up", "cp", "node"}, "want one of"},
		"unknown set":     {[]string{"build", "all"}, "want one of [node cp olm envtest]"},
		"no archive":      {[]string{"load-image"}, "load-image needs archives"},
		"nothing to push": {[]string{"push-image"}, "push-image needs archives"},
		"too much":        {[]string{"down", "now"}, "down takes no argument"},
		"status of what":  {[]string{"status", "x"}, "status takes no argument"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			err := Run(t.Context(), c.args, &stdout, &stderr)
			if !errors.Is(err, ErrUsage) || !strings.Contains(stderr.String(), c.want) || stdout.Len() > 0 {
				t.Errorf("got %v, stdout %q, stderr %q", err, &stdout, &stderr)
			}
		})
	}
}

func TestWithoutCluster(t *testing.T) {
	state := filepath.Join("/tmp", "vmcp-test-"+strings.ReplaceAll(t.Name(), "/", "-"))
	t.Setenv("VMCP_CLUSTER_STATE", state)
	t.Setenv("VMCP_CACHE", t.TempDir())
	for _, command := range []string{"status", "env"} {
		var stdout, stderr bytes.Buffer
		if err := Run(t.Context(), []string{command}, &stdout, &stderr); err == nil || !strings.Contains(err.Error(), "no cluster is up in "+state) {
			t.Errorf("%s: got %v", command, err)
		}
	}
	var stdout, stderr bytes.Buffer
	if err := Run(t.Context(), []string{"down"}, &stdout, &stderr); err != nil || !strings.Contains(stderr.String(), "no cluster is up") {
		t.Errorf("down: got %v, %q", err, &stderr)
	}
	if left, err := filepath.Glob(state + "*"); err != nil || len(left) > 0 {
		t.Errorf("down left %v, %v", left, err)
	}
}
