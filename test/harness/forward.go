// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"time"
)

// Forward is a running "kubectl port-forward" or "kubectl proxy".
type Forward struct {
	// Address is host:port on loopback.
	Address string

	cmd  *exec.Cmd
	done chan struct{}
	stop sync.Once
}

var (
	forwarding = regexp.MustCompile(`^Forwarding from (127\.0\.0\.1:\d+) ->`)
	proxying   = regexp.MustCompile(`^Starting to serve on (127\.0\.0\.1:\d+)`)
)

// ForwardService forwards a port on loopback (0 means a free one) to a port of a Service. It ends with the pod that it chose,
// with the context, and with Close.
func ForwardService(ctx context.Context, k Kubectl, namespace, service string, localPort, port int) (*Forward, error) {
	return forwardTo(ctx, k, namespace, "service/"+service, localPort, port)
}

// ForwardPod forwards a free port on loopback to a port of a pod. It ends with the pod, with the context, and with Close.
func ForwardPod(ctx context.Context, k Kubectl, namespace, pod string, port int) (*Forward, error) {
	return forwardTo(ctx, k, namespace, "pod/"+pod, 0, port)
}

func forwardTo(ctx context.Context, k Kubectl, namespace, target string, localPort, port int) (*Forward, error) {
	cmd := k.Command(ctx, "--namespace", namespace, "port-forward", "--address=127.0.0.1", target, fmt.Sprintf("%d:%d", localPort, port))
	return forward(cmd, fmt.Sprintf("forwarding to %s in %s", target, namespace), forwarding)
}

// ForwardAPI forwards a free port on loopback to the API server, with kubectl's credentials. It ends with the context, and with Close.
func ForwardAPI(ctx context.Context, k Kubectl) (*Forward, error) {
	return forward(k.Command(ctx, "proxy", "--address=127.0.0.1", "--port=0"), "forwarding to the API server", proxying)
}

// forward starts kubectl and waits until it prints the address where it listens.
func forward(cmd *exec.Cmd, what string, address *regexp.Regexp) (*Forward, error) {
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	var stderr lastLine
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	f := &Forward{cmd: cmd, done: make(chan struct{})}
	ready := make(chan string, 1)
	go func() {
		defer close(f.done)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if m := address.FindStringSubmatch(lines.Text()); m != nil {
				select {
				case ready <- m[1]:
				default:
				}
			}
		}
		_, _ = io.Copy(io.Discard, stdout)
		_ = cmd.Wait() // it ends by our signal, or says why on stderr
	}()
	select {
	case f.Address = <-ready:
		return f, nil
	case <-f.done:
		return nil, fmt.Errorf("%s: kubectl ended: %s", what, stderr.String())
	case <-time.After(20 * time.Second):
		f.Close()
		return nil, fmt.Errorf("%s: not ready after 20 s: %s", what, stderr.String())
	}
}

// Done is closed when forwarding has ended.
func (f *Forward) Done() <-chan struct{} { return f.done }

// Close ends forwarding and waits for kubectl to be gone.
func (f *Forward) Close() {
	f.stop.Do(func() { _ = f.cmd.Process.Signal(syscall.SIGTERM) })
	<-f.done
}

// lastLine keeps the newest output, for an error message.
type lastLine struct {
	mu   sync.Mutex
	text []byte
}

func (l *lastLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	const most = 1024
	l.text = append(l.text, p...)
	if len(l.text) > most {
		l.text = l.text[len(l.text)-most:]
	}
	return len(p), nil
}

func (l *lastLine) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}
