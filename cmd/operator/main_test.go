// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/controllers"
	"github.com/vmcp-dev/vmcp-operator/internal/olm"
	"github.com/vmcp-dev/vmcp-operator/internal/olm/olmtest"
)

// soon is how long the tests wait for what has to happen.
const soon = 30 * time.Second

// asProgram makes the test binary be the operator: the tests start it as a process of its own, with flags and signals.
const asProgram = "OPERATOR_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		if namespace := os.Getenv(envPodNamespace); namespace != "" {
			newConditions = olmtest.At(client.ObjectKey{Namespace: namespace, Name: os.Getenv(olm.ConditionNameVariable)})
		}
		main()
		return
	}
	os.Exit(m.Run())
}

// program is the operator with these arguments and variables. It ends with the test at the latest.
func program(t *testing.T, output io.Writer, variables map[string]string, args ...string) *exec.Cmd {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), executable, args...)
	command.Env = []string{asProgram + "=1"}
	for name, value := range variables {
		command.Env = append(command.Env, name+"="+value)
	}
	command.Stdout, command.Stderr = output, output
	return command
}

func TestRuntimeImageIsRequired(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	var output bytes.Buffer
	err := program(t, &output, nil).Run()
	var exit *exec.ExitError
	g.Expect(errors.As(err, &exit)).To(BeTrue(), "%v", err)
	g.Expect(exit.ExitCode()).To(Equal(1))
	g.Expect(output.String()).To(ContainSubstring("RELATED_IMAGE_RUNTIME is not set"))
}

func TestBadFlagsAreNamed(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	var output bytes.Buffer
	g.Expect(program(t, &output, nil, "--metrics-authorization=anybody").Run()).NotTo(Succeed())
	g.Expect(output.String()).To(ContainSubstring(`"anybody" for flag -metrics-authorization: want cluster or none`))
}

// controlPlane starts an API server with our CRDs that ends with the test. It returns how to reach it, also as a kubeconfig file.
func controlPlane(t *testing.T, g *WithT) (config *rest.Config, kubeconfig string) {
	t.Helper()
	environment := &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join("..", "..", "config", "crd", "bases")},
		ErrorIfCRDPathMissing: true,
	}
	config, err := environment.Start()
	g.Expect(err).NotTo(HaveOccurred(), "KUBEBUILDER_ASSETS must name the folder of kube-apiserver and etcd")
	t.Cleanup(func() { g.Expect(environment.Stop()).To(Succeed()) })
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	g.Expect(os.WriteFile(kubeconfig, environment.KubeConfig, 0o600)).To(Succeed())
	return config, kubeconfig
}

// The program as it is started in a pod: it leads, answers its probes, guards its metrics, provisions in all namespaces, and gives
// the lead back when it is told to stop.
func TestOperatorLeadsAndLetsGo(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	config, kubeconfig := controlPlane(t, g)

	metrics, probes := freeAddress(g), freeAddress(g)
	operator := program(t, t.Output(), map[string]string{
		"KUBECONFIG":      kubeconfig,
		envRuntimeImage:   "registry.example.com/vmcp-runtime:test",
		envPodNamespace:   "default",
		envWatchNamespace: "",
	}, "--leader-elect", "--metrics-bind-address", metrics, "--health-probe-bind-address", probes)
	g.Expect(operator.Start()).To(Succeed())
	var exit error
	done := make(chan struct{})
	go func() { exit = operator.Wait(); close(done) }()
	// A test that failed half-way has ended the program by now; what it said is in the log of the test.
	t.Cleanup(func() { <-done })

	scheme, err := controllers.NewScheme()
	g.Expect(err).NotTo(HaveOccurred())
	api, err := client.New(config, client.Options{Scheme: scheme})
	g.Expect(err).NotTo(HaveOccurred())
	holder := func(g Gomega) string {
		lease := &coordinationv1.Lease{}
		g.Expect(api.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: leaseName}, lease)).To(Succeed())
		g.Expect(lease.Spec.HolderIdentity).NotTo(BeNil())
		return *lease.Spec.HolderIdentity
	}
	g.Eventually(func(g Gomega) { g.Expect(holder(g)).NotTo(BeEmpty()) }).WithTimeout(soon).Should(Succeed())
	for _, url := range []string{"http://" + probes + "/healthz", "http://" + probes + "/readyz"} {
		g.Eventually(status).WithArguments(t, url).WithTimeout(soon).Should(Equal(http.StatusOK))
	}
	g.Eventually(status).WithArguments(t, "https://"+metrics+"/metrics").WithTimeout(soon).Should(Equal(http.StatusUnauthorized))

	g.Expect(api.Create(t.Context(), &v1alpha1.MCPGroup{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "team"}})).To(Succeed())
	g.Expect(api.Create(t.Context(), &v1alpha1.VirtualMCPServer{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "gateway"},
		Spec:       v1alpha1.VirtualMCPServerSpec{GroupRef: v1alpha1.LocalReference{Name: "team"}},
	})).To(Succeed())
	g.Eventually(func() error {
		return api.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "vmcp-gateway"}, &corev1.Service{})
	}).WithTimeout(soon).Should(Succeed())

	g.Expect(operator.Process.Signal(syscall.SIGTERM)).To(Succeed())
	g.Eventually(done).WithTimeout(soon).Should(BeClosed())
	g.Expect(exit).NotTo(HaveOccurred())
	g.Expect(holder(g)).To(BeEmpty())
}

func freeAddress(g *WithT) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	g.Expect(err).NotTo(HaveOccurred())
	defer l.Close()
	return l.Addr().String()
}

// status is the status code of the answer to a GET, or 0.
func status(t *testing.T, url string) int {
	code, _ := answer(t, url)
	return code
}

// answer is the status code and the body of the answer to a GET, or 0.
func answer(t *testing.T, url string) (int, string) {
	t.Helper()
	c := &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			// The certificate is self-signed, and on loopback.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		},
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, ""
	}
	return res.StatusCode, string(body)
}
