// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

// An API server that is away when the program starts is waited for: it lives meanwhile, is not ready, and works as soon as there is one.
func TestOperatorWaitsForTheAPIServer(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	config, kubeconfig := controlPlane(t, g)
	server := strings.TrimSuffix(strings.TrimPrefix(config.Host, "https://"), "/")
	elsewhere := freeAddress(g)
	content, err := os.ReadFile(kubeconfig)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(content)).To(ContainSubstring(server))
	away := filepath.Join(t.TempDir(), "kubeconfig")
	g.Expect(os.WriteFile(away, []byte(strings.ReplaceAll(string(content), server, elsewhere)), 0o600)).To(Succeed())

	probes := freeAddress(g)
	start := func() (stop func(), output *syncBuffer) {
		output = &syncBuffer{}
		operator := program(t, io.MultiWriter(t.Output(), output), map[string]string{
			"KUBECONFIG": away, envRuntimeImage: "registry.example.com/vmcp-runtime:test", envPodNamespace: "default",
		}, "--metrics-bind-address=0", "--health-probe-bind-address", probes)
		g.Expect(operator.Start()).To(Succeed())
		return func() {
			g.Expect(operator.Process.Signal(syscall.SIGTERM)).To(Succeed())
			g.Expect(operator.Wait()).To(Succeed(), "one that is told to stop has not failed")
		}, output
	}
	waiting := func() {
		g.Eventually(status).WithArguments(t, "http://"+probes+"/healthz").WithTimeout(soon).Should(Equal(http.StatusOK))
		g.Expect(status(t, "http://"+probes+"/readyz")).To(Equal(http.StatusServiceUnavailable))
	}
	stop, output := start()
	waiting()
	g.Expect(output.String()).To(ContainSubstring("Waiting for the API server"))
	stop()

	stop, _ = start()
	waiting()
	carry(t, g, elsewhere, server)
	g.Eventually(status).WithArguments(t, "http://"+probes+"/readyz").WithTimeout(soon).Should(Equal(http.StatusOK))
	stop()
}

// carry carries TCP connections from one address to another until the test ends.
func carry(t *testing.T, g *WithT, from, to string) {
	t.Helper()
	l, err := net.Listen("tcp", from)
	g.Expect(err).NotTo(HaveOccurred())
	var carried sync.WaitGroup
	t.Cleanup(carried.Wait)
	t.Cleanup(func() { _ = l.Close() })
	carried.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.DialTimeout("tcp", to, 5*time.Second)
			if err != nil {
				_ = in.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				carried.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					_, _ = in.Close(), out.Close()
				})
			}
		}
	})
}

// syncBuffer is what a process wrote so far.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
