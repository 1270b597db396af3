// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

func TestRequestsAreCounted(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	path := filepath.Join(t.TempDir(), "audit.log")
	var log string
	request := func(agent, verb, resource string, code int) {
		log += fmt.Sprintf(`{"stage":"ResponseComplete","verb":%q,"userAgent":%q,"objectRef":{"resource":%q},"responseStatus":{"code":%d}}`+"\n",
			verb, agent, resource, code)
		g.Expect(os.WriteFile(path, []byte(log), 0o600)).To(Succeed())
	}
	r := newRequests(path)
	request("vmcp-operator/virtualmcpserver", "patch", "roles", 200)
	before, err := r.now()
	g.Expect(err).NotTo(HaveOccurred())
	request("vmcp-operator/virtualmcpserver", "patch", "roles", 200)
	request("vmcp-operator/virtualmcpserver", "patch", "roles", 409)
	request("vmcp-operator/cache", "watch", "roles", 200)
	request("vmcp-operator/cache", "create", "events", 201)
	request("vmcp-operator/cache", "create", "tokenreviews", 201)
	request("vmcp-operator/leader-election", "update", "leases", 200)
	request("vmcp-operator/leader-election", "create", "events", 201)
	request("vmcp-operator/cache", "get", "", 200)
	request("vmcp-runtime/a", "patch", "virtualmcpservers", 200)
	request("vmcp-runtime/b", "update", "leases", 200)
	request("kube-controller-manager", "create", "pods", 201)
	after, err := r.now()
	g.Expect(err).NotTo(HaveOccurred())

	during := after.since(before)
	g.Expect(before.sum()).To(Equal(1))
	g.Expect(during.sum()).To(Equal(9), "%v", during)
	g.Expect(during.sum(byOperator)).To(Equal(3), "two for the Role and a watch")
	g.Expect(during.sum(byOperator, writes)).To(Equal(1))
	g.Expect(during.sum(byOperator, writing)).To(Equal(2))
	g.Expect(during.sum(operatorWrites)).To(Equal(2), "an event is a write")
	g.Expect(during.sum(byRuntimes)).To(Equal(1), "the Lease is renewed whatever happens")
	g.Expect(during.sum(byOperator, not(of("roles")))).To(BeZero())
	g.Expect(requestTable(during.pick(byOperator), 2, "each")).To(Equal(`
| client                         | verb        | resource | requests | each |
|--------------------------------|-------------|----------|----------|------|
| vmcp-operator/cache            | watch       | roles    | 1        | 0.50 |
| vmcp-operator/virtualmcpserver | patch       | roles    | 1        | 0.50 |
| vmcp-operator/virtualmcpserver | patch (409) | roles    | 1        | 0.50 |
`[1:]))
}

func TestResultIsAVerdict(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	r := result{}
	r.told("time", "%d s", 7)
	r.atMost("writes", "%.0f", 0, 0)
	g.Expect(r.missed()).To(BeZero())
	r.atMost("memory", "%.1f MiB", 80.1, 80)
	g.Expect(r.missed()).To(Equal(1))
	g.Expect(r.table()).To(Equal(`
| what   | bound      | figure   | verdict |
|--------|------------|----------|---------|
| time   |            | 7 s      |         |
| writes | ≤ 0        | 0        | met     |
| memory | ≤ 80.0 MiB | 80.1 MiB | MISSED  |
`[1:]))
}

func TestMemoryOfAProcess(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	m, err := parseMemory([]byte("Name:\toperator\nVmHWM:\t   97504 kB\nVmRSS:\t   85708 kB\nRssAnon:\t   39112 kB\nThreads:\t9\n"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(m).To(Equal(memory{peak: 97504 << 10, resident: 85708 << 10, anonymous: 39112 << 10}))
	_, err = parseMemory([]byte("Name:\toperator\nState:\tZ (zombie)\n"))
	g.Expect(err).To(HaveOccurred(), "a process that has ended has no memory")
}

func TestMetricsOfTheOperator(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	w, err := parseWork([]byte(`
# TYPE go_memstats_heap_inuse_bytes gauge
go_memstats_heap_inuse_bytes 2.7e+07
# TYPE workqueue_depth gauge
workqueue_depth{controller="mcpgroup",name="mcpgroup"} 2
workqueue_depth{controller="virtualmcpserver",name="virtualmcpserver"} 3
# TYPE controller_runtime_reconcile_total counter
controller_runtime_reconcile_total{controller="mcpgroup",result="success"} 40
controller_runtime_reconcile_total{controller="virtualmcpserver",result="success"} 500
controller_runtime_reconcile_total{controller="virtualmcpserver",result="requeue_after"} 7
`[1:]))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(w).To(Equal(work{heap: 27_000_000, reconciled: 507, queued: 5}))
}

func TestPopulation(t *testing.T) {
	t.Parallel()
	for servers, want := range map[int]struct{ dynamic, static, groups int }{
		2:   {1, 1, 2},
		3:   {1, 1, 3},
		20:  {4, 4, 4},
		500: {100, 100, 32},
	} {
		g := NewWithT(t)
		p := populate(servers)
		g.Expect(p.servers).To(HaveLen(servers))
		g.Expect(p.dynamic).To(Equal(want.dynamic))
		g.Expect(p.static).To(Equal(want.static))
		namespaces, groups, inline := map[string]bool{}, map[string]bool{}, 0
		for _, n := range p.namespaces {
			g.Expect(namespaces).NotTo(HaveKey(n.GetName()))
			namespaces[n.GetName()] = true
		}
		for _, o := range p.rest {
			g.Expect(namespaces).To(HaveKey(o.GetNamespace()))
			if _, ok := o.(*v1alpha1.MCPGroup); ok {
				groups[o.GetNamespace()+"/"+o.GetName()] = true
			}
		}
		g.Expect(groups).To(HaveLen(want.groups))
		for _, o := range p.servers {
			s := o.(*v1alpha1.VirtualMCPServer)
			g.Expect(groups).To(HaveKey(s.Namespace + "/" + s.Spec.GroupRef.Name))
			if s.Source() == v1alpha1.OutgoingAuthSourceInline {
				inline++
			}
		}
		g.Expect(inline).To(Equal(want.static))
	}
}
