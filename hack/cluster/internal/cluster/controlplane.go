// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/assets"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/build"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/kube"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/pki"
)

// Deadlines are generous: a machine may be busy compiling.
const (
	etcdTimeout    = 60 * time.Second
	apiTimeout     = 2 * time.Minute
	accountTimeout = time.Minute
)

func (s *starter) writePKI() error {
	if err := pki.Write(s.Config, s.stage); err != nil {
		return err
	}
	admin, err := os.ReadFile(s.Config.Path("pki", "admin.kubeconfig"))
	if err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	if err := os.WriteFile(s.Config.Kubeconfig(), admin, 0o600); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	s.api, err = kube.New(s.Config.APIServer(), s.Config.Path("pki"))
	return err
}

func (s *starter) controlPlane(ctx context.Context) error {
	if err := s.writeFile("audit-policy.yaml", "audit-policy.yaml"); err != nil {
		return err
	}
	if err := s.startDaemon(build.Etcd, s.etcdArgs()...); err != nil {
		return err
	}
	if err := s.wait(ctx, etcdTimeout, build.Etcd, build.Etcd, dial("127.0.0.1", s.Config.Ports.Etcd)); err != nil {
		return err
	}
	if err := s.startDaemon(build.APIServer, s.apiServerArgs()...); err != nil {
		return err
	}
	if s.stage.Includes(config.Node) {
		// While the API server starts.
		if err := s.importImages(ctx); err != nil {
			return err
		}
	}
	if err := s.wait(ctx, apiTimeout, build.APIServer, build.APIServer, s.api.Ready); err != nil {
		return err
	}
	err := errors.Join(
		s.startDaemon(build.ControllerManager, s.controllerManagerArgs()...),
		s.startDaemon(build.Scheduler, s.schedulerArgs()...),
	)
	if err != nil {
		return err
	}
	return s.wait(ctx, accountTimeout, "the default service account", build.ControllerManager, s.api.DefaultServiceAccount)
}

// dial is a condition: something listens.
func dial(host string, port int) func(context.Context) error {
	return func(ctx context.Context) error {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// writeFile renders an asset into the state directory.
func (s *starter) writeFile(asset string, path ...string) error {
	content, err := assets.Render(asset, s.Config)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.Config.Path(path...), []byte(content), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", asset, err)
	}
	return nil
}

func (s *starter) etcdArgs() []string {
	client := "http://127.0.0.1:" + strconv.Itoa(s.Config.Ports.Etcd)
	peer := "http://127.0.0.1:" + strconv.Itoa(s.Config.Ports.EtcdPeer)
	return []string{
		"--name=vmcp", "--data-dir=" + s.Config.Path("etcd"), "--log-level=warn",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=vmcp=" + peer,
		// The data does not outlive the processes.
		"--unsafe-no-fsync",
	}
}

func (s *starter) apiServerArgs() []string {
	pki := func(file string) string { return s.Config.Path("pki", file) }
	args := []string{
		"--etcd-servers=http://127.0.0.1:" + strconv.Itoa(s.Config.Ports.Etcd),
		"--secure-port=" + strconv.Itoa(s.Config.Ports.API),
		"--client-ca-file=" + pki("ca.crt"),
		"--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true", "--profiling=false",
		"--service-cluster-ip-range=" + s.Config.Services.String(),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + pki("service-account.pub"),
		"--service-account-signing-key-file=" + pki("service-account.key"),
		"--kubelet-certificate-authority=" + pki("ca.crt"),
		"--kubelet-client-certificate=" + pki("apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + pki("apiserver-kubelet-client.key"),
		// The node's name is in no DNS.
		"--kubelet-preferred-address-types=InternalIP",
		// Aggregated APIs, called at their pods' addresses.
		"--enable-aggregator-routing=true",
		"--proxy-client-cert-file=" + pki("front-proxy-client.crt"),
		"--proxy-client-key-file=" + pki("front-proxy-client.key"),
		"--requestheader-client-ca-file=" + pki("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		// Written before the answer is sent, and never rotated away: tests count its lines.
		"--audit-policy-file=" + s.Config.Path("audit-policy.yaml"),
		"--audit-log-path=" + s.Config.AuditLog(), "--audit-log-mode=blocking",
		"--audit-log-maxsize=2048", "--audit-log-maxbackup=1",
	}
	if s.stage.Includes(config.Node) {
		// Two addresses are needed, this machine's and the one for pods, and
		// only one can be given; the guard keeps everybody else away.
		return append(args, "--bind-address=0.0.0.0", "--advertise-address="+s.Config.NodeIP().String())
	}
	// Loopback is no valid endpoint of the Service "kubernetes": leave it without.
	return append(args, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none")
}

// componentArgs are common to controller manager and scheduler. Without a
// second instance there is no lease to wait for.
func (s *starter) componentArgs(name string, port int) []string {
	kubeconfig := s.Config.Path("pki", name+".kubeconfig")
	return []string{
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(port),
		"--tls-cert-file=" + s.Config.Path("pki", name+".crt"), "--tls-private-key-file=" + s.Config.Path("pki", name+".key"),
		"--leader-elect=false", "--profiling=false",
	}
}

func (s *starter) controllerManagerArgs() []string {
	return append(s.componentArgs("controller-manager", s.Config.Ports.ControllerManager),
		"--use-service-account-credentials=true",
		// One token per controller at the start; the default of 20 a second takes five.
		"--kube-api-qps=200", "--kube-api-burst=400",
		"--root-ca-file="+s.Config.Path("pki", "ca.crt"),
		"--service-account-private-key-file="+s.Config.Path("pki", "service-account.key"),
		"--cluster-signing-cert-file="+s.Config.Path("pki", "ca.crt"),
		"--cluster-signing-key-file="+s.Config.Path("pki", "ca.key"),
		"--allocate-node-cidrs=true", "--cluster-cidr="+s.Config.Pods.String(),
		"--node-cidr-mask-size="+strconv.Itoa(s.Config.Pods.Bits()),
		"--service-cluster-ip-range="+s.Config.Services.String(),
	)
}

func (s *starter) schedulerArgs() []string {
	return s.componentArgs("scheduler", s.Config.Ports.Scheduler)
}
