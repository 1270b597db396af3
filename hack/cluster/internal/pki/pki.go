// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pki makes the keys, certificates and kubeconfigs of one cluster. The
// layout follows Kubernetes' "PKI certificates and requirements".
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
)

// lifetime outlasts any cluster that is thrown away at the next reboot.
const lifetime = 365 * 24 * time.Hour

// pair is a certificate with its key, parsed and in PEM.
type pair struct {
	cert            *x509.Certificate
	key             crypto.Signer
	certPEM, keyPEM []byte
}

// server is a certificate that others connect to.
type server struct {
	file  string
	name  pkix.Name
	hosts []string
	ips   []netip.Addr
}

// Write makes everything that a cluster of the stage needs in its directory "pki".
func Write(c config.Config, stage config.Stage) error {
	dir := c.Path("pki")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	w := &writer{dir: dir, config: c}
	if err := w.all(stage); err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	return nil
}

type writer struct {
	dir    string
	config config.Config
	ca     pair
}

func (w *writer) all(stage config.Stage) error {
	var err error
	if w.ca, err = w.authority("ca", "vmcp-local-ca"); err != nil {
		return err
	}
	frontProxy, err := w.authority("front-proxy-ca", "vmcp-local-front-proxy-ca")
	if err != nil {
		return err
	}
	if err := w.client("front-proxy-client", frontProxy, pkix.Name{CommonName: "front-proxy-client"}); err != nil {
		return err
	}
	kubeletClient := pkix.Name{CommonName: "kube-apiserver-kubelet-client", Organization: []string{"system:masters"}}
	if err := w.client("apiserver-kubelet-client", w.ca, kubeletClient); err != nil {
		return err
	}
	for _, s := range w.servers(stage) {
		if err := w.server(s); err != nil {
			return err
		}
	}
	for user, name := range users(stage) {
		if err := w.kubeconfig(user, name); err != nil {
			return err
		}
	}
	return w.serviceAccountKeys()
}

func (w *writer) servers(stage config.Stage) []server {
	loopback := netip.MustParseAddr("127.0.0.1")
	api := server{
		file: "apiserver", name: pkix.Name{CommonName: "kube-apiserver"},
		hosts: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
		ips:   []netip.Addr{loopback, w.config.KubernetesServiceIP()},
	}
	list := []server{
		{file: "controller-manager", name: pkix.Name{CommonName: "kube-controller-manager"}, hosts: []string{"localhost"}, ips: []netip.Addr{loopback}},
		{file: "scheduler", name: pkix.Name{CommonName: "kube-scheduler"}, hosts: []string{"localhost"}, ips: []netip.Addr{loopback}},
	}
	if stage.Includes(config.Node) {
		api.ips = append(api.ips, w.config.NodeIP())
		list = append(list,
			server{file: "kubelet", name: nodeUser(), hosts: []string{config.NodeName}, ips: []netip.Addr{w.config.NodeIP()}},
			// OLM, which comes with it, may be added later.
			server{file: "registry", name: pkix.Name{CommonName: "registry"}, hosts: []string{"localhost"}, ips: []netip.Addr{loopback, w.config.NodeIP()}},
		)
	}
	return append(list, api)
}

// users are the subjects of kubeconfigs, by file name.
func users(stage config.Stage) map[string]pkix.Name {
	list := map[string]pkix.Name{
		"admin":              {CommonName: "vmcp-local-admin", Organization: []string{"system:masters"}},
		"controller-manager": {CommonName: "system:kube-controller-manager"},
		"scheduler":          {CommonName: "system:kube-scheduler"},
	}
	if stage.Includes(config.Node) {
		list["kubelet"] = nodeUser()
		list["kube-proxy"] = pkix.Name{CommonName: "system:kube-proxy"}
	}
	return list
}

// nodeUser is what the Node authorizer and NodeRestriction recognise.
func nodeUser() pkix.Name {
	return pkix.Name{CommonName: "system:node:" + config.NodeName, Organization: []string{"system:nodes"}}
}

func (w *writer) authority(file, name string) (pair, error) {
	t := x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	p, err := issue(t, nil)
	if err != nil {
		return p, err
	}
	return p, w.writePair(file, p)
}

func (w *writer) client(file string, ca pair, name pkix.Name) error {
	p, err := issueClient(ca, name)
	if err != nil {
		return err
	}
	return w.writePair(file, p)
}

func issueClient(ca pair, name pkix.Name) (pair, error) {
	return issue(x509.Certificate{
		Subject: name, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, &ca)
}

func (w *writer) server(s server) error {
	t := x509.Certificate{
		Subject: s.name, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: s.hosts,
	}
	for _, ip := range s.ips {
		t.IPAddresses = append(t.IPAddresses, net.IP(ip.AsSlice()))
	}
	p, err := issue(t, &w.ca)
	if err != nil {
		return err
	}
	return w.writePair(s.file, p)
}

// issue makes a key and its certificate, signed by the authority, or by itself without one.
func issue(t x509.Certificate, ca *pair) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	if t.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return pair{}, err
	}
	now := time.Now()
	t.NotBefore, t.NotAfter, t.BasicConstraintsValid = now.Add(-5*time.Minute), now.Add(lifetime), true
	parent, signer := &t, crypto.Signer(key)
	if ca != nil {
		parent, signer = ca.cert, ca.key
	}
	der, err := x509.CreateCertificate(rand.Reader, &t, parent, key.Public(), signer)
	if err != nil {
		return pair{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return pair{}, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return pair{}, err
	}
	return pair{
		cert: cert, key: key,
		certPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		keyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}, nil
}

// serviceAccountKeys signs tokens with RSA: there are OIDC clients that know RS256 only.
func (w *writer) serviceAccountKeys() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := w.write("service-account.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})); err != nil {
		return err
	}
	return w.write("service-account.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
}

func (w *writer) writePair(file string, p pair) error {
	if err := w.write(file+".crt", p.certPEM); err != nil {
		return err
	}
	return w.write(file+".key", p.keyPEM)
}

func (w *writer) write(file string, content []byte) error {
	return os.WriteFile(filepath.Join(w.dir, file), content, 0o600)
}

// kubeconfig writes USER.kubeconfig with a client certificate of its own.
func (w *writer) kubeconfig(user string, name pkix.Name) error {
	p, err := issueClient(w.ca, name)
	if err != nil {
		return err
	}
	content, err := renderKubeconfig(kubeconfig{
		Context: config.ContextName, User: config.ContextName + "-" + user, Server: w.config.APIServer(),
		CA: w.ca.certPEM, Cert: p.certPEM, Key: p.keyPEM,
	})
	if err != nil {
		return err
	}
	return w.write(user+".kubeconfig", content)
}
