// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/faulty"
	"github.com/vmcp-dev/vmcp-operator/test/process"
)

// The tools that backends have: one always, one at times.
const (
	baseTool = faulty.BaseTool
	moreTool = faulty.MoreTool
	// tokenKey is the key of the Secrets with credentials.
	tokenKey = "authorization"
)

// backend is what is in a slot.
type backend struct {
	slot
	world           *world
	listen, control string
	behaviour       faulty.Behaviour
	process         *process.Process
	starts, tokens  int

	mu      sync.Mutex
	current string // name of its MCPBackend
	names   int
}

func (b *backend) name() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current
}

// rename gives it the next name.
func (b *backend) rename() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.names++
	b.current = fmt.Sprintf("%s-%d", b.slot.name, b.names)
}

func (b *backend) tools() string {
	if len(b.behaviour.Tools) > 1 {
		return baseTool + " " + moreTool
	}
	return baseTool
}

// startBackends starts all backends, and makes them known as one group.
func (w *world) startBackends(ctx context.Context) error {
	if err := w.create(ctx, &v1alpha1.MCPGroup{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: group}}); err != nil {
		return err
	}
	for _, s := range slots {
		b := &backend{slot: s, world: w, current: s.name, names: 1, behaviour: faulty.Behaviour{Tools: []string{baseTool}}}
		w.backends = append(w.backends, b)
		for _, address := range []*string{&b.listen, &b.control} {
			var err error
			if *address, err = w.freePort(ctx); err != nil {
				return err
			}
		}
		if s.auth {
			b.behaviour.Token = b.nextToken()
			if err := w.create(ctx, b.secret(), b.authConfig()); err != nil {
				return err
			}
		}
		if err := b.start(ctx); err != nil {
			return err
		}
		if err := w.create(ctx, b.object()); err != nil {
			return err
		}
		w.book.before(s.name, b.tools())
	}
	return nil
}

func (b *backend) nextToken() string {
	b.tokens++
	return fmt.Sprintf("Bearer %s-%d", b.slot.name, b.tokens)
}

func (b *backend) secret() *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: b.slot.name, Labels: map[string]string{v1alpha1.CredentialLabel: "true"}},
		Data:       map[string][]byte{tokenKey: []byte(b.behaviour.Token)},
	}
}

func (b *backend) authConfig() *v1alpha1.MCPExternalAuthConfig {
	return &v1alpha1.MCPExternalAuthConfig{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: b.slot.name},
		Spec: v1alpha1.MCPExternalAuthConfigSpec{
			Type: v1alpha1.ExternalAuthTypeHeaderInjection,
			HeaderInjection: &v1alpha1.HeaderInjection{
				HeaderName: "Authorization", SecretRef: v1alpha1.SecretKeyReference{Name: b.slot.name, Key: tokenKey},
			},
		},
	}
}

func (b *backend) object() *v1alpha1.MCPBackend {
	o := &v1alpha1.MCPBackend{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: b.name()},
		Spec: v1alpha1.MCPBackendSpec{
			GroupRef: v1alpha1.LocalReference{Name: group}, Transport: v1alpha1.TransportStreamableHTTP,
			Remote: &v1alpha1.RemoteBackend{URL: "http://" + b.listen + "/mcp"},
		},
	}
	if b.auth {
		o.Spec.ExternalAuthConfigRef = &v1alpha1.LocalReference{Name: b.slot.name}
	}
	return o
}

// start starts its process, and waits until it listens.
func (b *backend) start(ctx context.Context) error {
	initial, err := json.Marshal(b.behaviour)
	if err != nil {
		return err
	}
	args := []string{"backend", "-listen", b.listen, "-control", b.control, "-behaviour", string(initial)}
	if b.modern {
		args = append(args, "-modern")
	}
	b.starts++
	b.process, err = process.Start(process.Options{
		Name: fmt.Sprintf("%s-%d", b.slot.name, b.starts), Dir: b.world.folder, Program: b.world.self, Args: args,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return errors.Join(b.process.WaitListening(ctx, b.control), b.process.WaitListening(ctx, b.listen))
}

// behave tells it how to behave.
func (b *backend) behave(ctx context.Context) error {
	body, err := json.Marshal(b.behaviour)
	if err != nil {
		return err
	}
	return b.world.put(ctx, "http://"+b.control+faulty.BehaviourPath, bytes.NewReader(body))
}

// change makes something else true of it.
func (b *backend) change(e event, do func() error) error {
	tools := b.tools()
	if e == left {
		tools = ""
	}
	return b.world.book.change(b.name(), e, tools, b.busy, do)
}

// do does a fault, and undo undoes it. Both return when it is done.
func (b *backend) do(ctx context.Context, f fault) error {
	switch f.kind {
	case die:
		return b.change(died, func() error { b.process.Kill(); return nil })
	case hang:
		return b.change(hung, func() error { return b.process.Signal(syscall.SIGSTOP) })
	case slow:
		b.behaviour.Delay = f.delay
		return b.change(slowed, func() error { return b.behave(ctx) })
	case unauthorize:
		b.behaviour.Token = b.nextToken()
		if b.auth {
			return b.change(rejected, func() error { return b.behave(ctx) })
		}
		return b.change(locked, func() error { return b.behave(ctx) })
	case garbage:
		b.behaviour.Garbage = true
		return b.change(garbled, func() error { return b.behave(ctx) })
	case leave:
		return b.change(left, func() error { return b.delete(ctx) })
	case rename:
		if err := b.change(left, func() error { return b.delete(ctx) }); err != nil {
			return err
		}
		b.rename()
		return b.change(joined, func() error { return b.create(ctx) })
	case withdraw:
		return b.change(withdrawn, func() error { return b.setSecret(ctx, nil) })
	case tellTools, hideTools:
		return b.toggleTools(ctx, f.kind)
	default:
		return fmt.Errorf("nothing is done for %q", f.kind)
	}
}

func (b *backend) undo(ctx context.Context, f fault) error {
	switch f.kind {
	case die:
		return b.change(recovered, func() error { return b.start(ctx) })
	case hang:
		return b.change(recovered, func() error { return b.process.Signal(syscall.SIGCONT) })
	case slow:
		b.behaviour.Delay = 0
		return b.change(recovered, func() error { return b.behave(ctx) })
	case unauthorize:
		if b.auth {
			return b.change(rotated, func() error { return b.setSecret(ctx, b.secret().Data) })
		}
		b.behaviour.Token = ""
		return b.change(recovered, func() error { return b.behave(ctx) })
	case garbage:
		b.behaviour.Garbage = false
		return b.change(recovered, func() error { return b.behave(ctx) })
	case leave:
		return b.change(joined, func() error { return b.create(ctx) })
	case withdraw:
		return b.change(restored, func() error { return b.setSecret(ctx, b.secret().Data) })
	case tellTools:
		return b.toggleTools(ctx, f.kind)
	default:
		return nil // it stays so
	}
}

func (b *backend) toggleTools(ctx context.Context, kind faultKind) error {
	if len(b.behaviour.Tools) > 1 {
		b.behaviour.Tools = []string{baseTool}
	} else {
		b.behaviour.Tools = []string{baseTool, moreTool}
	}
	e := toolsUntold
	if b.behaviour.Told = kind == tellTools; b.behaviour.Told {
		e = toolsTold
	}
	return b.change(e, func() error { return b.behave(ctx) })
}

func (b *backend) delete(ctx context.Context) error {
	return b.world.insist(ctx, func(ctx context.Context) error { return client.IgnoreNotFound(b.world.client.Delete(ctx, b.object())) })
}

func (b *backend) create(ctx context.Context) error {
	return b.world.insist(ctx, func(ctx context.Context) error { return ignoreExists(b.world.client.Create(ctx, b.object())) })
}

func (b *backend) setSecret(ctx context.Context, data map[string][]byte) error {
	return b.world.insist(ctx, func(ctx context.Context) error {
		s := b.secret()
		if err := b.world.client.Get(ctx, client.ObjectKeyFromObject(s), s); err != nil {
			return err
		}
		s.Data = data
		return b.world.client.Update(ctx, s)
	})
}

func ignoreExists(err error) error {
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// insist asks the API server until it has done it, for it may be away.
func (w *world) insist(ctx context.Context, do func(context.Context) error) error {
	return w.await(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, lookTimeout)
		defer cancel()
		return do(ctx)
	})
}

// breakdown does something to the runtime or the API server, waits, and undoes it.
func (w *world) breakdown(ctx context.Context, f fault, wait func(time.Duration)) error {
	w.book.say("%s for %s", f.kind, seconds(f.lasts))
	list, fresh := &w.book.truth.runtime, f.kind == killRuntime
	var stop, start func() error
	switch f.kind {
	case killRuntime:
		stop, start = func() error { w.runtime.Kill(); return nil }, w.startRuntime
	case freezeRuntime:
		stop, start = func() error { return w.runtime.Signal(syscall.SIGSTOP) }, func() error { return w.runtime.Signal(syscall.SIGCONT) }
	default:
		list, stop = &w.book.truth.api, func() error { return w.api.Kill(ctx) }
		start = func() error { return w.startAPIServer(ctx) }
	}
	back, err := w.book.away(list, fresh, stop)
	if err != nil {
		return err
	}
	wait(f.at + f.lasts)
	err = back(start)
	w.book.say("%s: over", f.kind)
	return err
}
