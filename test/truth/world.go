// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/harness"
	"github.com/vmcp-dev/vmcp-operator/test/podless"
	"github.com/vmcp-dev/vmcp-operator/test/process"
)

const (
	namespace = "truth"
	group     = "truth"
	gateway   = "truth"
	agent     = "vmcp-truth"

	// startTimeout is how long a part of the world may take to be there, and the API server to take a change.
	startTimeout = 2 * time.Minute
	pollInterval = 200 * time.Millisecond
	// crashBackoff is what a kubelet waits at first before it starts a container again that ends time and again.
	crashBackoff = 10 * time.Second
	// firstPort is where ports are looked for: below those that the kernel gives to whoever dials, or a connection could meet itself at
	// the port of a backend that is dead.
	firstPort = 21000
)

// world is all that runs: the control plane is there already, with an address of its own and nothing in it.
type world struct {
	options
	book   *book
	config *rest.Config
	client client.WithWatch
	// http is for the processes on loopback, admin for the API server.
	http, admin *http.Client
	nextTry     int // port

	kwok     *process.Process
	operator *keeper
	api      *harness.Daemon
	backends []*backend

	runtimeArgs, runtimeEnv []string
	endpoint, ready         string
	runtime                 *process.Process
	runtimes                int // that were started
}

func newWorld(o options, b *book) (*world, error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	if err := rest.LoadTLSFiles(config); err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	config.QPS, config.UserAgent = -1, agent
	scheme := clientgoscheme.Scheme
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	admin, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	return &world{
		options: o, book: b, config: config, client: c, admin: admin, nextTry: firstPort,
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}, nil
}

// end ends everything but the control plane, in an order in which nothing is missed.
func (w *world) end() {
	if w.runtime != nil {
		w.runtime.Kill()
	}
	if w.operator != nil {
		w.operator.end()
	}
	for _, b := range w.backends {
		if b.process != nil {
			b.process.Kill()
		}
	}
	if w.kwok != nil {
		w.kwok.Kill()
	}
	w.http.CloseIdleConnections()
}

// start makes the world, and returns when the status of the VirtualMCPServer says that all is well.
func (w *world) start(ctx context.Context) error {
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"the API server's process", w.findAPIServer},
		{"operator and kwok", w.startOperator},
		{"backends", w.startBackends},
		{"runtime", w.provision},
		{"phase Ready", w.awaitReady},
	} {
		w.book.say("starting: %s", step.name)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("starting %s: %w", step.name, err)
		}
	}
	return nil
}

// freePort is one below those of clients that nobody listens on.
func (w *world) freePort(ctx context.Context) (string, error) {
	for ; w.nextTry < firstPort+2000; w.nextTry++ {
		address := fmt.Sprintf("127.0.0.1:%d", w.nextTry)
		if l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address); err == nil {
			w.nextTry++
			return address, l.Close()
		}
	}
	return "", errors.New("no port is free")
}

func (w *world) startOperator(ctx context.Context) error {
	deployment, err := podless.Install(ctx, w.client, agent)
	if err != nil {
		return err
	}
	kubeconfig := filepath.Join(w.folder, "operator.kubeconfig")
	if err := podless.WriteKubeconfig(ctx, w.client, w.config, podless.OperatorNamespace, podless.OperatorAccount, kubeconfig); err != nil {
		return err
	}
	args, environment := podless.Container(deployment)
	for _, flag := range []string{"--metrics-bind-address=", "--health-probe-bind-address="} {
		address, err := w.freePort(ctx)
		if err != nil {
			return err
		}
		args = append(args, flag+address)
	}
	w.operator, err = keep(process.Options{
		Name: "operator", Dir: w.folder, Program: w.options.operator, Args: args,
		Env: append(environment, "KUBECONFIG="+kubeconfig, "POD_NAMESPACE="+podless.OperatorNamespace),
	}, func(err error) { w.book.say("the operator ended, and is started again as a kubelet does: %.120s", err) })
	if err != nil {
		return err
	}
	w.kwok, err = process.Start(process.Options{
		Name: "kwok", Dir: w.folder, Program: w.options.kwok, Env: []string{"HOME=" + w.folder},
		Args: []string{
			"--kubeconfig=" + w.kubeconfig, "--config=" + filepath.Join("test", "scale", "kwok.yaml"), "--manage-all-nodes=true",
			"--node-lease-duration-seconds=40", "--cidr=10.246.0.0/16",
		},
	})
	if err != nil {
		return err
	}
	room := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("32Gi"), corev1.ResourcePods: resource.MustParse("16"),
	}
	return w.create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "fake", Labels: map[string]string{corev1.LabelHostname: "fake"}},
		Status:     corev1.NodeStatus{Allocatable: room, Capacity: room},
	}, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
}

func (w *world) create(ctx context.Context, objects ...client.Object) error {
	for _, o := range objects {
		if err := w.client.Create(ctx, o); err != nil {
			return fmt.Errorf("creating %T %s: %w", o, o.GetName(), err)
		}
	}
	return nil
}

// provision has the operator provision the gateway, and runs its runtime with all that the pod would have.
func (w *world) provision(ctx context.Context) error {
	err := w.create(ctx, &v1alpha1.VirtualMCPServer{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: gateway},
		Spec:       v1alpha1.VirtualMCPServerSpec{GroupRef: v1alpha1.LocalReference{Name: group}},
	})
	if err != nil {
		return err
	}
	name := v1alpha1.OperandName(gateway)
	pod, err := w.pod(ctx)
	if err != nil {
		return err
	}
	for _, o := range []client.Object{&corev1.ServiceAccount{}, &coordinationv1.Lease{}} {
		if err := w.await(ctx, func(ctx context.Context) error {
			return w.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, o)
		}); err != nil {
			return err
		}
	}
	configMap, deployment := &corev1.ConfigMap{}, &appsv1.Deployment{}
	for _, o := range []client.Object{configMap, deployment} {
		if err := w.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, o); err != nil {
			return err
		}
	}
	kubeconfig, file := filepath.Join(w.folder, "runtime.kubeconfig"), filepath.Join(w.folder, configv1alpha1.FileName)
	if err := podless.WriteKubeconfig(ctx, w.client, w.config, namespace, name, kubeconfig); err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(configMap.Data[configv1alpha1.FileName]), 0o600); err != nil {
		return err
	}
	listen, err := w.freePort(ctx)
	if err != nil {
		return err
	}
	admin, err := w.freePort(ctx)
	if err != nil {
		return err
	}
	_, w.runtimeEnv = podless.Container(deployment)
	w.runtimeArgs = []string{"serve", "--config", file, "--listen", listen, "--admin-listen", admin, "--log-level", "debug"}
	w.runtimeEnv = append(w.runtimeEnv, "KUBECONFIG="+kubeconfig, "VMCP_NAME="+gateway, "VMCP_NAMESPACE="+namespace, "POD_NAME="+pod)
	w.endpoint, w.ready = "http://"+listen+v1alpha1.EndpointPath, "http://"+admin+"/readyz"
	return w.startRuntime()
}

// startRuntime starts the next process of the runtime's container.
func (w *world) startRuntime() (err error) {
	w.runtimes++
	w.runtime, err = process.Start(process.Options{
		Name: fmt.Sprintf("runtime-%d", w.runtimes), Dir: w.folder, Program: w.vmcp, Args: w.runtimeArgs, Env: w.runtimeEnv,
	})
	return err
}

// pod is the name of the pod that kwok says runs.
func (w *world) pod(ctx context.Context) (name string, err error) {
	err = w.await(ctx, func(ctx context.Context) error {
		pods := &corev1.PodList{}
		if err := w.client.List(ctx, pods, client.InNamespace(namespace), client.MatchingLabels{v1alpha1.VirtualMCPServerLabel: gateway}); err != nil {
			return err
		}
		if len(pods.Items) != 1 || pods.Items[0].Status.Phase != corev1.PodRunning {
			return fmt.Errorf("%d pods, want one that runs", len(pods.Items))
		}
		name = pods.Items[0].Name
		return nil
	})
	return name, err
}

func (w *world) awaitReady(ctx context.Context) error {
	return w.await(ctx, func(ctx context.Context) error {
		s := &v1alpha1.VirtualMCPServer{}
		if err := w.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: gateway}, s); err != nil {
			return err
		}
		if s.Status.Phase != v1alpha1.PhaseReady || len(s.Status.DiscoveredBackends) != len(slots) {
			return fmt.Errorf("phase %q, %s", s.Status.Phase, s.Status.Message)
		}
		return nil
	})
}

// await waits until there is nothing wrong.
func (w *world) await(ctx context.Context, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", startTimeout, err)
		case <-time.After(pollInterval):
		}
	}
}

// keeper starts a program again when it ends, as a kubelet does.
type keeper struct {
	stop  context.CancelFunc
	tasks sync.WaitGroup
}

func keep(o process.Options, ended func(error)) (*keeper, error) {
	p, err := process.Start(o)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	k := &keeper{stop: stop}
	k.tasks.Go(func() {
		for n := 2; ; n++ {
			_, err := p.Wait(ctx)
			if ctx.Err() != nil {
				return
			}
			ended(err)
			if n > 2 {
				select {
				case <-ctx.Done():
					return
				case <-time.After(crashBackoff):
				}
			}
			next := o
			next.Name = fmt.Sprintf("%s-%d", o.Name, n)
			if p, err = process.Start(next); err != nil {
				ended(err)
				return
			}
		}
	})
	return k, nil
}

// end ends the program. It returns when it has ended.
func (k *keeper) end() {
	k.stop()
	k.tasks.Wait()
}

// put tells a process something over HTTP.
func (w *world) put(ctx context.Context, url string, body io.Reader) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, url, body)
	if err != nil {
		return err
	}
	response, err := w.http.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("telling %s: %s", url, response.Status)
	}
	return nil
}
