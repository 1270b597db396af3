// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/vmcp-dev/vmcp-operator/test/process"
)

// apiServer is the process of the API server, which bin/cluster started and which is started here again as it was. bin/cluster finds
// it by its arguments, so that it goes with the rest.
type apiServer struct {
	pid       int
	args, env []string
	process   *process.Process // nil: bin/cluster's
	starts    int
}

// findAPIServer reads how the API server was started.
func (w *world) findAPIServer(context.Context) error {
	const daemon = "kube-apiserver"
	record, err := os.ReadFile(filepath.Join(w.cluster, "pids", daemon+".pid"))
	if err != nil {
		return fmt.Errorf("reading the id of %s: %w", daemon, err)
	}
	first, _, _ := strings.Cut(string(record), " ")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return fmt.Errorf("reading the id of %s: %w", daemon, err)
	}
	a := &apiServer{pid: pid}
	for file, list := range map[string]*[]string{"cmdline": &a.args, "environ": &a.env} {
		content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), file))
		if err != nil {
			return fmt.Errorf("reading how %s was started: %w", daemon, err)
		}
		for part := range bytes.SplitSeq(bytes.TrimSuffix(content, []byte{0}), []byte{0}) {
			*list = append(*list, string(part))
		}
	}
	if len(a.args) == 0 || !strings.HasSuffix(a.args[0], daemon) {
		return fmt.Errorf("process %d is no %s", pid, daemon)
	}
	w.api = a
	return nil
}

// kill ends the API server without a chance to say good-bye.
func (a *apiServer) kill() error {
	if a.process != nil {
		a.process.Kill()
		return nil
	}
	if err := syscall.Kill(a.pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("killing the API server: %w", err)
	}
	return nil
}

// start starts it, and waits until it answers.
func (w *world) startAPIServer(ctx context.Context) (err error) {
	a := w.api
	a.starts++
	a.process, err = process.Start(process.Options{
		Name: fmt.Sprintf("kube-apiserver-%d", a.starts), Dir: w.folder, Program: a.args[0], Args: a.args[1:], Env: a.env,
	})
	if err != nil {
		return err
	}
	return w.await(ctx, func(ctx context.Context) error {
		if err := a.process.Err(); err != nil {
			return err
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.config.Host+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		response, err := w.admin.Do(request)
		if err != nil {
			return err
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return errors.New(response.Status)
		}
		return nil
	})
}
