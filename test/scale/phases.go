// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// Bounds, and times that the measurement waits for.
const (
	maxRequests = 14       // to provision one VirtualMCPServer, events apart
	maxMemory   = 80 << 20 // bytes of the operator, the mapped program apart

	// convergence is how long a phase may take to come to rest.
	convergence = 10 * time.Minute
	// quiet is how long nobody must have written before a phase counts as over: longer than any interval of a writer.
	quiet = 10 * time.Second
	// grace is how long the operator that was started anew is watched: after a minute it would count runtimes as lost.
	grace = 75 * time.Second
	// idleTime is how long the fleet is watched at rest.
	idleTime = time.Minute
	// tick is how often the measurement looks, and every how many ticks it tells.
	tick     = time.Second
	tellEach = 5
)

func (m *measurement) install(ctx context.Context) error {
	deployment, err := install(ctx, m.client)
	if err != nil {
		return err
	}
	if m.launcher, err = newLauncher(ctx, m.client, m.config, deployment, m.options.operator, m.folder); err != nil {
		return err
	}
	m.kwok, err = start(m.logFile("kwok.log"), []string{"HOME=" + m.folder, "PATH=" + os.Getenv("PATH")}, m.options.kwok,
		"--kubeconfig="+m.kubeconfig, "--config="+filepath.Join("test", "scale", "kwok.yaml"), "--manage-all-nodes=true", "--node-lease-duration-seconds=40", "--cidr=10.245.0.0/16")
	if err != nil {
		return err
	}
	if err := create(ctx, m.client, fakeNodes(m.servers)); err != nil {
		return err
	}
	living, stop := context.WithCancel(context.WithoutCancel(ctx))
	if m.runtimes, err = newRuntimes(living, m.config, m.client); err != nil {
		stop()
		return err
	}
	m.stop = stop
	if m.operator, err = m.launcher.launch(); err != nil {
		return err
	}
	return m.leads(ctx)
}

// leads waits until the operator answers and has nothing to do, which is after it leads.
func (m *measurement) leads(ctx context.Context) error {
	return poll(ctx, time.Minute, func(ctx context.Context) (bool, error) {
		if err := m.alive(); err != nil {
			return false, err
		}
		w, err := m.operator.scrape(ctx)
		return err == nil && w.queued == 0, nil
	})
}

// alive says which program has ended that should not have, and looks at the memory of the operator.
func (m *measurement) alive() error {
	for name, p := range map[string]*process{"operator": m.operator.process, "kwok": m.kwok} {
		if p.ended() {
			return fmt.Errorf("%s has ended; its log is %s", name, m.logFile(name+".log"))
		}
	}
	memory, err := m.operator.memory()
	if err != nil {
		return err
	}
	m.operator.anonymous = max(m.operator.anonymous, memory.anonymous)
	return nil
}

// provision creates everything, and measures until all VirtualMCPServers are ready and nobody writes any more.
func (m *measurement) provision(ctx context.Context) error {
	if err := create(ctx, m.client, m.population.namespaces); err != nil {
		return err
	}
	before, err := m.requests.now()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := create(ctx, m.client, append(m.population.rest, m.population.servers...)); err != nil {
		return err
	}
	m.say("created %d VirtualMCPServers in %.1f s", m.servers, time.Since(began).Seconds())
	var converged time.Time
	err = m.settle(ctx, func() (done, total int, err error) {
		done, err = m.ready(ctx)
		if done == m.servers && converged.IsZero() {
			converged = time.Now()
		}
		return done, m.servers, err
	})
	if err != nil {
		return err
	}
	after, err := m.requests.now()
	if err != nil {
		return err
	}
	m.provisioned = after.since(before)
	perServer := float64(m.provisioned.sum(byOperator)) / float64(m.servers)
	m.result.atMost("requests of the operator to provision one VirtualMCPServer, events apart", "%.2f", perServer, maxRequests)
	m.result.told("time until all are ready, from the first one created", "%.0f s", converged.Sub(began).Seconds())
	return m.tellMemory(ctx, "operator that provisioned")
}

// tellMemory adds the operator's memory to the result, and keeps a profile of its heap beside the logs.
func (m *measurement) tellMemory(ctx context.Context, who string) error {
	memory, err := m.operator.memory()
	if err != nil {
		return err
	}
	w, err := m.operator.scrape(ctx)
	if err != nil {
		return err
	}
	m.result.atMost("memory, "+who+": most anonymous (RssAnon, looked at each second)", "%.1f MiB",
		mebibytes(m.operator.anonymous), mebibytes(maxMemory))
	m.result.told("memory, "+who+": most ever resident (VmHWM), of which about so much is the mapped program", "%.1f; %.1f MiB",
		mebibytes(memory.peak), mebibytes(memory.resident-memory.anonymous))
	m.result.told("memory, "+who+": now resident; of it anonymous; heap in use", "%.1f; %.1f; %.1f MiB",
		mebibytes(memory.resident), mebibytes(memory.anonymous), mebibytes(w.heap))
	return m.operator.saveProfile(ctx, "heap", m.logFile(strings.ReplaceAll(who, " ", "-")+".heap.pb.gz"))
}

// idle counts what the fleet costs at rest.
func (m *measurement) idle(ctx context.Context) error {
	during, err := m.watch(ctx, idleTime)
	if err != nil {
		return err
	}
	m.result.atMost("writes of the operator in a minute at rest", "%.0f", float64(during.sum(operatorWrites)), 0)
	m.result.atMost("requests of a runtime that reports in a minute at rest", "%.2f",
		float64(during.sum(func(r request) bool { return r.agent == runtimeAgents && r.verb != "watch" }))/float64(m.servers), 4)
	m.result.atMost("requests for the VirtualMCPServer itself in a minute at rest", "%.0f",
		float64(during.sum(of("virtualmcpservers"), func(r request) bool { return r.verb != "watch" })), 0)
	return nil
}

// restart kills the operator and watches what another one does.
func (m *measurement) restart(ctx context.Context) error {
	before, err := m.requests.now()
	if err != nil {
		return err
	}
	m.operator.kill()
	began := time.Now()
	if m.operator, err = m.launcher.launch(); err != nil {
		return err
	}
	err = poll(ctx, convergence, func(ctx context.Context) (bool, error) {
		if err := m.alive(); err != nil {
			return false, err
		}
		w, err := m.operator.scrape(ctx)
		return err == nil && w.reconciled >= m.servers && w.queued == 0, nil
	})
	if err != nil {
		return fmt.Errorf("waiting until it has reconciled everything: %w", err)
	}
	m.result.told("time until an operator that takes over from a killed one has reconciled all", "%.0f s", time.Since(began).Seconds())
	if _, err := m.watch(ctx, grace); err != nil {
		return err
	}
	after, err := m.requests.now()
	if err != nil {
		return err
	}
	m.restarted = after.since(before)
	m.result.atMost("writes of an operator that was started anew, events included", "%.0f", float64(m.restarted.sum(operatorWrites)), 0)
	m.result.told("of its leader election (Lease and event)", "%d", m.restarted.sum(writes, func(r request) bool { return r.agent == electionAgent }))
	return m.tellMemory(ctx, "operator started anew")
}

// addDynamic adds a backend, with credentials of its own, to the group whose gateways find it by themselves.
func (m *measurement) addDynamic(ctx context.Context) error {
	b := newBackend(dynamicNamespace, addedBackend, sharedGroup)
	b.Spec.ExternalAuthConfigRef = &v1alpha1.LocalReference{Name: credential}
	during, err := m.add(ctx, b, m.population.dynamic)
	if err != nil {
		return err
	}
	m.addedInDynamic = during
	what := fmt.Sprintf("backend added to a group of %d, dynamic: ", m.population.dynamic)
	operator := during.pick(operatorWrites)
	gateways := of("virtualmcpservers", "deployments", "services", "configmaps", "serviceaccounts", "leases", "horizontalpodautoscalers")
	m.result.atMost(what+"writes of the operator on VirtualMCPServers and operands", "%.0f", float64(operator.sum(gateways)), 0)
	m.result.atMost(what+"on the group", "%.0f", float64(operator.sum(of("mcpgroups"))), 1)
	m.result.atMost(what+"on the backend", "%.0f", float64(operator.sum(of("mcpbackends"))), 1)
	m.result.atMost(what+"on Roles and their bindings", "%.0f", float64(operator.sum(of("roles", "rolebindings"))), 1)
	m.result.atMost(what+"on anything else", "%.0f",
		float64(operator.sum(not(gateways), not(of("mcpgroups", "mcpbackends", "roles", "rolebindings")))), 0)
	m.result.atMost(what+"writes of each runtime", "%.2f", float64(during.sum(byRuntimes, writes))/float64(m.population.dynamic), 1)
	return nil
}

// addStatic adds a backend to the group whose gateways are told of it by the operator: in their configuration, and in the status.
func (m *measurement) addStatic(ctx context.Context) error {
	during, err := m.add(ctx, newBackend(staticNamespace, addedBackend, sharedGroup), m.population.static)
	if err != nil {
		return err
	}
	m.addedInStatic = during
	what := fmt.Sprintf("backend added to a group of %d, static: ", m.population.static)
	each := float64(m.population.static)
	operator := during.pick(operatorWrites)
	m.result.atMost(what+"writes of the operator on each ConfigMap", "%.2f", float64(operator.sum(of("configmaps")))/each, 1)
	m.result.atMost(what+"on each VirtualMCPServer", "%.2f", float64(operator.sum(of("virtualmcpservers")))/each, 1)
	m.result.atMost(what+"on the group and on the backend", "%.0f", float64(operator.sum(of("mcpgroups", "mcpbackends"))), 2)
	m.result.atMost(what+"on anything else", "%.0f",
		float64(operator.sum(not(of("configmaps", "virtualmcpservers", "mcpgroups", "mcpbackends")))), 0)
	m.result.atMost(what+"writes of each runtime", "%.2f", float64(during.sum(byRuntimes, writes))/each, 1)
	return nil
}

// add creates a backend and returns the requests until n VirtualMCPServers report it and nobody writes any more.
func (m *measurement) add(ctx context.Context, b *v1alpha1.MCPBackend, n int) (tally, error) {
	before, err := m.requests.now()
	if err != nil {
		return nil, err
	}
	if err := m.client.Create(ctx, b); err != nil {
		return nil, fmt.Errorf("creating MCPBackend %s: %w", b.Name, err)
	}
	err = m.settle(ctx, func() (done, total int, err error) {
		done, err = m.count(ctx, func(s *v1alpha1.VirtualMCPServer) bool {
			return slices.ContainsFunc(s.Status.DiscoveredBackends, func(d v1alpha1.DiscoveredBackend) bool {
				return d.Name == b.Name && d.Status == v1alpha1.BackendReady
			})
		}, client.InNamespace(b.Namespace))
		return done, n, err
	})
	if err != nil {
		return nil, err
	}
	after, err := m.requests.now()
	if err != nil {
		return nil, err
	}
	return after.since(before), nil
}

// ready counts the VirtualMCPServers that are ready, as both writers of the status say.
func (m *measurement) ready(ctx context.Context) (int, error) {
	return m.count(ctx, func(s *v1alpha1.VirtualMCPServer) bool {
		return s.Status.Phase == v1alpha1.PhaseReady && s.Status.ObservedGeneration == s.Generation
	})
}

func (m *measurement) count(ctx context.Context, which func(*v1alpha1.VirtualMCPServer) bool, opts ...client.ListOption) (int, error) {
	list := &v1alpha1.VirtualMCPServerList{}
	if err := m.runtimes.cache.List(ctx, list, append(opts, client.UnsafeDisableDeepCopy)...); err != nil {
		return 0, err
	}
	n := 0
	for i := range list.Items {
		if which(&list.Items[i]) {
			n++
		}
	}
	return n, nil
}

// settle waits until all is done and nobody wrote for a while, renewals of Leases apart.
func (m *measurement) settle(ctx context.Context, progress func() (done, total int, err error)) error {
	writesNow, lastChange, ticks := -1, time.Now(), 0
	return poll(ctx, convergence, func(context.Context) (bool, error) {
		if err := m.alive(); err != nil {
			return false, err
		}
		done, total, err := progress()
		if err != nil {
			return false, err
		}
		now, err := m.requests.now()
		if err != nil {
			return false, err
		}
		if n := now.sum(writes, not(of("leases"))); n != writesNow {
			writesNow, lastChange = n, time.Now()
		}
		if ticks++; ticks%tellEach == 1 {
			m.say("%d of %d done, %d writes so far", done, total, writesNow)
		}
		return done == total && time.Since(lastChange) >= quiet, nil
	})
}

// watch counts the requests of a time.
func (m *measurement) watch(ctx context.Context, duration time.Duration) (tally, error) {
	before, err := m.requests.now()
	if err != nil {
		return nil, err
	}
	m.say("watching for %v", duration)
	until := time.Now().Add(duration)
	err = poll(ctx, duration+time.Minute, func(context.Context) (bool, error) { return time.Now().After(until), m.alive() })
	if err != nil {
		return nil, err
	}
	after, err := m.requests.now()
	if err != nil {
		return nil, err
	}
	return after.since(before), nil
}

// operatorWrites are all writes of the operator but those of its leader election and of a scrape.
func operatorWrites(r request) bool {
	return writes(r) && (byOperator(r) || r.resource == "events" && r.agent != electionAgent)
}

func mebibytes(bytes uint64) float64 { return float64(bytes) / (1 << 20) }

// poll asks every second until the answer is yes, an error comes, or the time is over.
func poll(ctx context.Context, limit time.Duration, condition func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not there after %v", limit))
	defer cancel()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		yes, err := condition(ctx)
		if yes || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
