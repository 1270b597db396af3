// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command truth finds out how truthful the status of a VirtualMCPServer is, and its list of tools: it runs an operator, a runtime and ten
// backends as processes, does random things to them, and looks from outside at what is said about them all the time. What is wrong for
// longer than it may be is a lie. It needs the control plane of an otherwise empty cluster of bin/cluster, and kwok for a node that only
// seems to run the pod.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/vmcp-dev/vmcp-operator/test/document"
	"github.com/vmcp-dev/vmcp-operator/test/faulty"
)

type options struct {
	seed                          uint64
	length                        time.Duration
	kubeconfig, auditLog, cluster string
	operator, vmcp, kwok, self    string
	folder, document              string
	dry                           bool
}

const (
	// judgeInterval is how often lies are looked for while the run goes on.
	judgeInterval = 5 * time.Second
	// extra is how long a run may take besides.
	extra = 5 * time.Minute
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "backend" {
		if err := faulty.Run(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "truth backend:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flags := flag.NewFlagSet("truth", flag.ExitOnError) // a package of controller-runtime has put -kubeconfig into the common one
	flags.Uint64Var(&o.seed, "seed", 0, "What the faults follow from; 0 means one that is not known before.")
	flags.DurationVar(&o.length, "time", 10*time.Minute, "How long it goes on, from 90 s.")
	flags.StringVar(&o.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "An administrator's, of a cluster that is for this alone.")
	flags.StringVar(&o.auditLog, "audit-log", os.Getenv("VMCP_AUDIT_LOG"), "The audit log of its API server.")
	flags.StringVar(&o.cluster, "cluster", os.Getenv("VMCP_CLUSTER_STATE"), "The state folder of bin/cluster.")
	flags.StringVar(&o.operator, "operator", "bin/operator", "The operator's program.")
	flags.StringVar(&o.vmcp, "vmcp", "bin/vmcp", "The runtime's program.")
	flags.StringVar(&o.kwok, "kwok", "bin/tools/kwok", "kwok's program.")
	flags.StringVar(&o.folder, "logs", "", "Folder for the logs and the timeline; empty means a temporary one, which stays if there was a lie.")
	flags.StringVar(&o.document, "document", "", "Markdown file whose section between markers gets the result; empty means none.")
	flags.BoolVar(&o.dry, "dry", false, "Print the faults and do nothing.")
	_ = flags.Parse(os.Args[1:]) // it exits instead
	ctrl.SetLogger(zap.New())
	lies, err := measureTruth(o)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "truth:", err)
		os.Exit(1)
	case lies > 0:
		os.Exit(1)
	}
}

func measureTruth(o options) (lies int, err error) {
	if o.length < wave {
		return 0, fmt.Errorf("-time must be %s at least", wave)
	}
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	faults := plan(o.seed, o.length)
	if o.dry {
		for _, f := range faults {
			fmt.Println(f)
		}
		return 0, nil
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, o.length+extra, errors.New("it takes much too long"))
	defer cancel()
	temporary := o.folder == ""
	if temporary {
		if o.folder, err = os.MkdirTemp("", "vmcp-truth-"); err != nil {
			return 0, err
		}
	}
	if o.self, err = os.Executable(); err != nil {
		return 0, err
	}
	fmt.Printf("seed %d, %s\n", o.seed, o.length)
	b := newBook(os.Stdout)
	b.begin() // the times of the start count from here
	result, err := run(ctx, o, b, faults)
	if err != nil {
		return 0, fmt.Errorf("%w (the logs are in %s)", err, o.folder)
	}
	if err := b.writeTimeline(o.folder); err != nil {
		return 0, err
	}
	fmt.Print("\n" + result.details())
	switch {
	case len(result.lies) > 0:
		fmt.Printf("\nlogs and timeline: %s\n", o.folder)
	case temporary:
		_ = os.RemoveAll(o.folder) // it is in the temporary folder
	}
	if o.document != "" {
		if err := document.Replace(o.document, "truth", result.document()); err != nil {
			return 0, err
		}
	}
	fmt.Printf("again: %s\n%s\n", result.command(), result.last())
	return len(result.lies), nil
}

// run makes the world, has the faults happen in it, and says what was seen.
func run(ctx context.Context, o options, b *book, faults []fault) (*result, error) {
	w, err := newWorld(o, b)
	if err != nil {
		return nil, err
	}
	defer w.end()
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	requests, err := countRequests(o.auditLog)
	if err != nil {
		return nil, err
	}
	b.begin()
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	var watchers sync.WaitGroup
	look := &watcher{book: b, client: w.client, key: client.ObjectKey{Namespace: namespace, Name: gateway}, endpoint: w.endpoint, ready: w.ready, http: w.http}
	watchers.Go(func() { look.read(watching) })
	watchers.Go(func() { look.watch(watching) })
	for _, era := range eras {
		watchers.Go(func() { look.list(watching, era) })
	}
	for _, backend := range w.backends {
		if backend.busy {
			watchers.Go(func() { look.call(watching, backend.name) })
		}
	}
	watchers.Go(func() { every(watching, judgeInterval, func() { b.judge() }) })
	var stalled time.Duration
	watchers.Go(func() { stalled = stalls(watching) })

	err = w.happen(ctx, faults, o.length)
	stopWatching()
	watchers.Wait()
	if err != nil {
		return nil, err
	}
	after, err := countRequests(o.auditLog)
	if err != nil {
		return nil, err
	}
	return b.result(o, stalled, after.since(requests)), nil
}

// happen has the faults happen, those of one backend one after the other, and returns when the time is over.
func (w *world) happen(ctx context.Context, faults []fault, length time.Duration) error {
	group, ctx := errgroup.WithContext(ctx)
	wait := func(until time.Duration) {
		timer := time.NewTimer(until - w.book.now())
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
	}
	for slot := nobody; slot < len(slots); slot++ {
		group.Go(func() error {
			for _, f := range faults {
				if f.slot != slot {
					continue
				}
				if wait(f.at); ctx.Err() != nil {
					return context.Cause(ctx)
				}
				w.book.count(f.kind)
				if err := w.one(ctx, f, wait); err != nil {
					return fmt.Errorf("%s: %w", f, err)
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		wait(length)
		return context.Cause(ctx)
	})
	return group.Wait()
}

// one has one fault happen, from beginning to end.
func (w *world) one(ctx context.Context, f fault, wait func(time.Duration)) error {
	if f.slot == nobody {
		return w.breakdown(ctx, f, wait)
	}
	if err := w.backends[f.slot].do(ctx, f); err != nil || f.lasts == 0 {
		return err
	}
	wait(f.at + f.lasts)
	return w.backends[f.slot].undo(ctx, f)
}
