// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/vmcp-dev/vmcp-operator/runtime"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
)

// processCommand has the test program run a runtime, so that a test can stop a process of its own without stopping itself.
const processCommand = "runtime-process"

// processOptions are what such a process is told.
type processOptions struct {
	Host, User                 string
	CA, Certificate, Key       []byte
	Namespace, Name, Pod, File string
}

// quickLease is the policy of the Lease in units of a tenth of its usual times.
var quickLease = status.LeasePolicy{
	Duration: 6 * time.Second, TakeAfter: 4500 * time.Millisecond, ReportWithin: 4 * time.Second,
	RenewInterval: 2 * time.Second, RetryInterval: 100 * time.Millisecond,
}

func runProcess(text string) int {
	if err := serveProcess(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func serveProcess(text string) error {
	var p processOptions
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return err
	}
	o, err := runtime.Cluster(context.Background(), runtime.ClusterOptions{
		API: &rest.Config{
			Host: p.Host, Impersonate: rest.ImpersonationConfig{UserName: p.User},
			TLSClientConfig: rest.TLSClientConfig{CAData: p.CA, CertData: p.Certificate, KeyData: p.Key},
		},
		Name: p.Name, Namespace: p.Namespace, PodName: p.Pod, ConfigFile: p.File, Version: "v1",
		Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", Lease: quickLease,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		return err
	}
	o.Listening = func(gateway, admin net.Addr) { fmt.Println(gateway.String(), admin.String()) }
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return runtime.Run(ctx, o)
}

// process is a runtime in a process of its own.
type process struct {
	*started
	command *exec.Cmd
}

func (o *operand) startProcess(t *testing.T, pod string) *process {
	t.Helper()
	text, err := json.Marshal(processOptions{
		Host: o.api.Host, User: o.api.Impersonate.UserName, CA: o.api.CAData, Certificate: o.api.CertData, Key: o.api.KeyData,
		Namespace: o.namespace, Name: o.name, Pod: pod, File: o.file,
	})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	p := &process{command: exec.Command(self, processCommand, string(text))}
	p.command.Stderr = &log
	out, err := p.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	p.started = &started{http: &http.Client{Transport: &http.Transport{}}}
	p.stop = sync.OnceValue(func() error {
		p.signal(t, syscall.SIGTERM)
		p.http.CloseIdleConnections()
		killing := time.AfterFunc(long, func() { _ = p.command.Process.Kill() })
		defer killing.Stop()
		return p.command.Wait()
	})
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Errorf("process %s ended with: %v", pod, err)
		}
		if t.Failed() {
			t.Logf("process %s:\n%s", pod, log.String())
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("process %s did not start: %v", pod, err)
	}
	var gateway, admin string
	if _, err := fmt.Sscan(line, &gateway, &admin); err != nil {
		t.Fatal(err)
	}
	p.endpoint, p.admin = "http://"+gateway+"/mcp", "http://"+admin
	return p
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.command.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}
