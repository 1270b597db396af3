// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// process is a program that was started here and ends here.
type process struct {
	command *exec.Cmd
	log     *os.File
	done    chan struct{}
}

// start runs a program whose output goes to the end of a log file.
func start(logFile string, environment []string, name string, args ...string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	p := &process{command: exec.CommandContext(context.Background(), name, args...), log: log, done: make(chan struct{})}
	p.command.Env, p.command.Stdout, p.command.Stderr = environment, log, log
	// It goes with this program, however that ends.
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.command.Start(); err != nil {
		log.Close()
		return nil, fmt.Errorf("starting %s: %w", filepath.Base(name), err)
	}
	go func() {
		_ = p.command.Wait() // how it ended is in its log
		log.Close()
		close(p.done)
	}()
	return p, nil
}

// kill ends the process without a chance to say good-bye.
func (p *process) kill() {
	_ = p.command.Process.Kill() // it may have ended by itself
	<-p.done
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// operator is the operator's own program, outside of any pod, with the token of its ServiceAccount.
type operator struct {
	*process
	metrics, profiles, token string
	// anonymous is the most memory beside the mapped program that was seen, in bytes.
	anonymous uint64
}

// memory of a process, in bytes (proc_pid_status(5)).
type memory struct {
	// resident is what it has now, peak the most that it ever had, and anonymous the part that is not its program text.
	resident, peak, anonymous uint64
}

func (p *process) memory() (memory, error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.command.Process.Pid), "status"))
	if err != nil {
		return memory{}, fmt.Errorf("reading the operator's memory: %w", err)
	}
	return parseMemory(data)
}

func parseMemory(status []byte) (memory, error) {
	values := map[string]uint64{}
	for line := range strings.Lines(string(status)) {
		name, rest, _ := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if len(fields) != 2 || fields[1] != "kB" {
			continue
		}
		kib, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil {
			return memory{}, fmt.Errorf("reading %s: %w", name, err)
		}
		values[name] = kib << 10
	}
	m := memory{resident: values["VmRSS"], peak: values["VmHWM"], anonymous: values["RssAnon"]}
	if m.resident == 0 || m.peak == 0 {
		return memory{}, errors.New("the status of the process names no VmRSS or VmHWM: it has ended")
	}
	return m, nil
}

// work is what the operator says of itself.
type work struct {
	// heap are the bytes of the heap that are in use, reconciled the VirtualMCPServers that were reconciled, queued the objects that
	// are yet to be, of any kind.
	heap               uint64
	reconciled, queued int
}

// scrape reads the operator's metrics.
func (o *operator) scrape(ctx context.Context) (work, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+o.metrics+"/metrics", http.NoBody)
	if err != nil {
		return work{}, err
	}
	req.Header.Set("Authorization", "Bearer "+o.token)
	// Its certificate is self-signed, and on loopback.
	scraper := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	res, err := scraper.Do(req)
	if err != nil {
		return work{}, fmt.Errorf("scraping the operator: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return work{}, fmt.Errorf("scraping the operator: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return work{}, fmt.Errorf("scraping the operator: %s: %s", res.Status, bytes.TrimSpace(body))
	}
	return parseWork(body)
}

// saveProfile writes a profile to a file, for go tool pprof.
func (o *operator) saveProfile(ctx context.Context, name, file string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+o.profiles+"/debug/pprof/"+name, http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("reading the operator's profile %s: %w", name, err)
	}
	defer res.Body.Close()
	profile, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("reading the operator's profile %s: %w", name, err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("reading the operator's profile %s: %s", name, res.Status)
	}
	return os.WriteFile(file, profile, 0o600)
}

func parseWork(metrics []byte) (work, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(metrics))
	if err != nil {
		return work{}, fmt.Errorf("parsing the operator's metrics: %w", err)
	}
	var w work
	each := func(name string, do func(controller string, m *dto.Metric)) {
		for _, m := range families[name].GetMetric() {
			controller := ""
			for _, l := range m.GetLabel() {
				if l.GetName() == "controller" {
					controller = l.GetValue()
				}
			}
			do(controller, m)
		}
	}
	each("go_memstats_heap_inuse_bytes", func(_ string, m *dto.Metric) { w.heap = uint64(m.GetGauge().GetValue()) })
	each("workqueue_depth", func(_ string, m *dto.Metric) { w.queued += int(m.GetGauge().GetValue()) })
	each("controller_runtime_reconcile_total", func(controller string, m *dto.Metric) {
		if controller == "virtualmcpserver" {
			w.reconciled += int(m.GetCounter().GetValue())
		}
	})
	return w, nil
}

// freeAddress is one on loopback that nobody listens on at this moment.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
