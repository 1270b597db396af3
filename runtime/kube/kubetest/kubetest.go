// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kubetest runs tests against a real API server with the CRDs of this repository. The binaries are those that
// KUBEBUILDER_ASSETS names.
package kubetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube"
)

// Soon is how long a test waits for what should take a moment, on a busy machine.
const Soon = 20 * time.Second

var config *rest.Config

// Main runs the tests of a package with an API server and fails if they leave goroutines behind.
func Main(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctrllog.SetLogger(logr.Discard()) // the client under test logs into the tests' output; this is the administrator's
	environment := &envtest.Environment{
		CRDDirectoryPaths:     []string{CRDs()},
		ErrorIfCRDPathMissing: true,
	}
	config, err = environment.Start()
	if err != nil {
		return 0, fmt.Errorf("starting the API server (KUBEBUILDER_ASSETS=%q): %w", os.Getenv("KUBEBUILDER_ASSETS"), err)
	}
	code = m.Run()
	if err := environment.Stop(); err != nil {
		return 0, fmt.Errorf("stopping the API server: %w", err)
	}
	if code == 0 {
		err = goleak.Find()
	}
	return code, err
}

// CRDs is the folder of the CRDs of this repository.
func CRDs() string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "..", "..", "..", "config", "crd", "bases")
}

// Config is how to reach the API server.
func Config(t testing.TB) *rest.Config {
	t.Helper()
	return rest.CopyConfig(config)
}

// Client is an administrator's client, with which a test plays the user and the operator.
func Client(t testing.TB) client.Client {
	t.Helper()
	return ClientOf(t, Config(t))
}

// kinds is a scheme of the tests' own, made once: a scheme must not be added to while somebody decodes with it, and watches of client-go
// decode with the global one until their connections close, a moment after the test that opened them.
var kinds = sync.OnceValues(func() (*apiruntime.Scheme, error) {
	s := apiruntime.NewScheme()
	return s, errors.Join(scheme.AddToScheme(s), v1alpha1.AddToScheme(s), apiextensionsv1.AddToScheme(s))
})

// ClientOf is a client of another API server, see OwnServer.
func ClientOf(t testing.TB, config *rest.Config) client.Client {
	t.Helper()
	s, err := kinds()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{Scheme: s})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Namespace makes a namespace for one test.
func Namespace(t testing.TB, c client.Client) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	if err := c.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// Clients are those of the runtime of a VirtualMCPServer.
func Clients(t testing.TB, namespace, virtualMCPServer string) *kube.Clients {
	t.Helper()
	return ClientsOf(t, Config(t), namespace, virtualMCPServer)
}

// ClientsOf are those of a runtime of another API server, see OwnServer.
func ClientsOf(t testing.TB, config *rest.Config, namespace, virtualMCPServer string) *kube.Clients {
	t.Helper()
	clients, err := kube.New(config, namespace, virtualMCPServer)
	if err != nil {
		t.Fatal(err)
	}
	return clients
}

// Logger logs into the test's output.
func Logger(t testing.TB) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Start runs a function until the test ends, or until the returned function is called, which waits for its end.
func Start(t testing.TB, run func(ctx context.Context)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		run(ctx)
	}()
	stop = func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(Soon):
			t.Error("what was started did not end")
		}
	}
	t.Cleanup(stop)
	return stop
}

// Eventually waits until check finds nothing wrong.
func Eventually(t testing.TB, check func() string) {
	t.Helper()
	deadline := time.NewTimer(Soon)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		problem := check()
		if problem == "" {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("after %s: %s", Soon, problem)
		}
	}
}
