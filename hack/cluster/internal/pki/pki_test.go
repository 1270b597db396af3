// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
)

func write(t *testing.T, stage config.Stage) config.Config {
	t.Helper()
	c, err := config.FromEnvironment(func(name string) string { return map[string]string{"HOME": "/h"}[name] })
	if err != nil {
		t.Fatal(err)
	}
	c.State = t.TempDir()
	if err := Write(c, stage); err != nil {
		t.Fatal(err)
	}
	return c
}

func load(t *testing.T, c config.Config, name string) *x509.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(c.Path("pki", name+".crt"), c.Path("pki", name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

func pool(t *testing.T, c config.Config, name string) *x509.CertPool {
	t.Helper()
	p := x509.NewCertPool()
	p.AddCert(load(t, c, name))
	return p
}

func TestCertificatesVerify(t *testing.T) {
	c := write(t, config.Node)
	for _, tc := range []struct {
		name, ca, host string
		usage          x509.ExtKeyUsage
	}{
		{"apiserver", "ca", "127.0.0.1", x509.ExtKeyUsageServerAuth},
		{"apiserver", "ca", "10.244.0.1", x509.ExtKeyUsageServerAuth},
		{"apiserver", "ca", "10.96.0.1", x509.ExtKeyUsageServerAuth},
		{"apiserver", "ca", "kubernetes.default.svc", x509.ExtKeyUsageServerAuth},
		{"registry", "ca", "10.244.0.1", x509.ExtKeyUsageServerAuth},
		{"registry", "ca", "127.0.0.1", x509.ExtKeyUsageServerAuth},
		{"kubelet", "ca", "10.244.0.1", x509.ExtKeyUsageServerAuth},
		{"controller-manager", "ca", "127.0.0.1", x509.ExtKeyUsageServerAuth},
		{"scheduler", "ca", "127.0.0.1", x509.ExtKeyUsageServerAuth},
		{"apiserver-kubelet-client", "ca", "", x509.ExtKeyUsageClientAuth},
		{"front-proxy-client", "front-proxy-ca", "", x509.ExtKeyUsageClientAuth},
	} {
		_, err := load(t, c, tc.name).Verify(x509.VerifyOptions{Roots: pool(t, c, tc.ca), DNSName: tc.host, KeyUsages: []x509.ExtKeyUsage{tc.usage}})
		if err != nil {
			t.Errorf("%s for %q: %v", tc.name, tc.host, err)
		}
	}
	// The front proxy's authority vouches for users: it must not be the cluster's.
	if _, err := load(t, c, "front-proxy-client").Verify(x509.VerifyOptions{Roots: pool(t, c, "ca"), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
		t.Error("the front proxy's certificate is signed by the cluster's authority")
	}
	if got := load(t, c, "kubelet").Subject; got.CommonName != "system:node:vmcp-node" || got.Organization[0] != "system:nodes" {
		t.Errorf("kubelet's subject is %v", got)
	}
}

func TestStagesDiffer(t *testing.T) {
	c := write(t, config.ControlPlane)
	for _, name := range []string{"kubelet.crt", "registry.crt", "kubelet.kubeconfig", "kube-proxy.kubeconfig"} {
		if _, err := os.Stat(c.Path("pki", name)); err == nil {
			t.Errorf("%s is made for a control plane without node", name)
		}
	}
	if err := load(t, c, "apiserver").VerifyHostname("10.244.0.1"); err == nil {
		t.Error("the API server's certificate has an address of a node that is not there")
	}
}

func TestKubeconfig(t *testing.T) {
	c := write(t, config.ControlPlane)
	content, err := os.ReadFile(c.Path("pki", "admin.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"current-context: vmcp-local\n", "server: https://127.0.0.1:6443\n", "client-key-data: LS0t"} {
		if !strings.Contains(string(content), want) {
			t.Errorf("it lacks %q:\n%s", want, content)
		}
	}
	info, err := os.Stat(c.Path("pki", "admin.kubeconfig"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
}
