// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package assets

import (
	"encoding/json"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
)

func testConfig(t *testing.T) config.Config {
	t.Helper()
	c, err := config.FromEnvironment(func(name string) string {
		return map[string]string{"HOME": "/h", "VMCP_CLUSTER_STATE": "/state", "VMCP_POD_CIDR": "10.9.0.0/24", "VMCP_SERVICE_CIDR": "10.10.0.0/16", "VMCP_PORT_OFFSET": "7"}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestEveryAssetRenders also makes sure that no default is written into a file.
func TestEveryAssetRenders(t *testing.T) {
	names, err := fs.Glob(files, "files/*")
	if err != nil || len(names) == 0 {
		t.Fatalf("no assets: %v", err)
	}
	for _, name := range names {
		out, err := Render(path.Base(name), testConfig(t))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, s := range []string{"10.244.", "10.96.", "6443", "10250", ":5000", "/tmp/", "{{", "<no value>"} {
			if strings.Contains(out, s) {
				t.Errorf("%s contains %q:\n%s", name, s, out)
			}
		}
	}
}

func TestRenderedValues(t *testing.T) {
	for name, want := range map[string][]string{
		"guard.nft": {
			"table inet vmcp_guard {", `iifname "vmcp0" oifname != "vmcp0" counter reject`,
			`ip daddr { 10.9.0.0/24, 10.10.0.0/16 } counter drop`, "tcp dport { 6450, 10257, 10263 } counter drop",
		},
		"kubelet.yaml":         {"address: 10.9.0.1\nport: 10257", "cgroupRoot: /vmcp-cluster", `clusterDNS: ["10.10.0.10"]`, "unix:///state/run/containerd.sock"},
		"kube-proxy.yaml":      {"hostnameOverride: vmcp-node", "clusterCIDR: 10.9.0.0/24"},
		"containerd.toml":      {`address = "/state/run/containerd.sock"`, `sandbox = "` + config.PauseImage + `"`, `bin_dirs = ["/state/cni/bin"]`},
		"registry-mirror.toml": {`[host."https://10.9.0.1:5007"]`, `ca = "/state/pki/ca.crt"`},
		"olm-values.yaml":      {"ref: " + config.OLMImage, "--opmImage=" + config.OPMImage},
		"node-manifests.yaml":  {"clusterIP: 10.10.0.10", "image: " + config.CoreDNSImage},
	} {
		out, err := Render(name, testConfig(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range want {
			if !strings.Contains(out, s) {
				t.Errorf("%s lacks %q:\n%s", name, s, out)
			}
		}
	}
}

func TestCNIConfigurationIsJSON(t *testing.T) {
	out, err := Render("cni.conflist", testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Name    string
		Plugins []struct{ Type, Bridge string }
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	if list.Name != config.NetworkName || len(list.Plugins) != 2 || list.Plugins[0].Bridge != config.Bridge {
		t.Errorf("got %+v", list)
	}
}

func TestRenderUnknown(t *testing.T) {
	if _, err := Render("nothing.yaml", testConfig(t)); err == nil {
		t.Error("no error")
	}
}
