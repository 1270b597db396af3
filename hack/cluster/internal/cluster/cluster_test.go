// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/progress"
)

func newTestCluster(t *testing.T) *Cluster {
	t.Helper()
	c, err := config.FromEnvironment(func(name string) string { return map[string]string{"HOME": "/h"}[name] })
	if err != nil {
		t.Fatal(err)
	}
	c.State = filepath.Join(t.TempDir(), "state")
	return New(c, nil, progress.New(&bytes.Buffer{}))
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestIsOurs(t *testing.T) {
	c := newTestCluster(t)
	inState := "--config=" + c.Config.Path("x.yaml")
	for name, tc := range map[string]struct {
		exe  string
		args []string
		want bool
	}{
		"daemon":                {"/cache/kubelet", []string{"kubelet", inState}, true},
		"shim":                  {"/cache/containerd-shim-runc-v2", []string{"shim", "-address", c.Config.ContainerdSocket()}, true},
		"of another cluster":    {"/cache/kubelet", []string{"kubelet", "--config=" + c.Config.State + "2/x.yaml"}, false},
		"of the machine":        {"/usr/bin/kubelet", []string{"kubelet"}, false},
		"somebody reads a file": {"/usr/bin/less", []string{"less", c.Config.Path("logs/etcd.log")}, false},
		"a user's kubectl":      {"/cache/kubectl", []string{"kubectl", "--kubeconfig=" + c.Config.Kubeconfig()}, false},
	} {
		if got := c.isOurs(tc.exe, tc.args); got != tc.want {
			t.Errorf("%s: got %t, want %t", name, got, tc.want)
		}
	}
}

func TestForeignDirectoryIsLeftAlone(t *testing.T) {
	c := newTestCluster(t)
	precious := c.Config.Path("thesis.txt")
	write(t, precious, "x")
	for name, f := range map[string]func() error{
		"down": func() error { return c.Down(t.Context()) },
		"up":   func() error { return c.Up(t.Context(), config.ControlPlane) },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), "is not the state of a cluster") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

// TestDownRemovesWhatIsLeft has a state as a killed machine leaves it: pid
// files of another boot, and no process.
func TestDownRemovesWhatIsLeft(t *testing.T) {
	c := newTestCluster(t)
	write(t, c.Config.Path(markFile), "")
	write(t, c.Config.Path("pids", "etcd.pid"), "2 1 another-boot\n")
	write(t, c.Config.Path("pids", "kubelet.pid"), "garbage")
	write(t, c.Config.Path("etcd", "data"), "x")
	for range 2 { // the second has nothing to do
		if err := c.Down(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	left, err := filepath.Glob(c.Config.State + "*")
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestTeardownCanKeepLogs(t *testing.T) {
	c := newTestCluster(t)
	write(t, c.Config.Path(markFile), "")
	write(t, c.Config.Path("logs", "etcd.log"), "why")
	write(t, c.Config.Path("pki", "ca.key"), "secret")
	if err := c.teardown(t.Context(), keepLogs); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.Config.Path("logs", "etcd.log")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(c.Config.Path("pki")); err == nil {
		t.Error("the keys are still there")
	}
	if err := c.ours(); err != nil {
		t.Errorf("the next run does not know the directory: %v", err)
	}
}

func TestInspectSaysWhatIsBroken(t *testing.T) {
	for name, tc := range map[string]struct {
		files map[string]string
		want  string
	}{
		"nothing":         {nil, errDown.Error()},
		"start cut short": {map[string]string{markFile: ""}, "its start did not finish"},
		"record damaged":  {map[string]string{recordFile: "{"}, "read cluster.json"},
		"daemon dead":     {map[string]string{recordFile: `{"Stage":"cp"}`, "pids/etcd.pid": "2 1 another-boot\n"}, "not running any more: etcd"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCluster(t)
			for file, content := range tc.files {
				write(t, c.Config.Path(file), content)
			}
			if _, err := c.inspect(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestShimSockets(t *testing.T) {
	c := newTestCluster(t)
	a, b := "/run/containerd/s/"+strings.Repeat("a", 64), "/run/containerd/s/"+strings.Repeat("b", 64)
	task := func(id, file string) string {
		return c.Config.Path("containerd", "state", "io.containerd.runtime.v2.task", "k8s.io", id, file)
	}
	write(t, task("1", "bootstrap.json"), `{"version":3,"address":"unix://`+b+`","protocol":"ttrpc"}`)
	write(t, task("2", "address"), "unix://"+a)
	write(t, task("3", "address"), "unix:///run/other.sock")
	if got := c.shimSockets(); !slices.Equal(got, []string{a, b}) {
		t.Errorf("got %q", got)
	}
}
