// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package bridge_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmcp-dev/vmcp-operator/runtime/bridge"
)

// programBridge is a bridge that adopts orphans, as the first process of a container does. Its log is on its output.
const programBridge = "bridge"

func init() {
	programs[programBridge] = func() {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			fmt.Println("prctl:", err)
			os.Exit(1)
		}
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		err := bridge.Run(ctx, "127.0.0.1:0", bridge.Options{
			Command:     []string{os.Args[0], serverScripted},
			ReapOrphans: true,
			Logger:      slog.New(slog.NewTextHandler(os.Stdout, nil)),
		})
		if err != nil {
			fmt.Println("run:", err)
			os.Exit(1)
		}
	}
}

func TestOrphansAreReaped(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, programBridge)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log := &lockedBuffer{}
	address := make(chan string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			fmt.Fprintln(log, lines.Text())
			if a := between(lines.Text()+" ", "address=", " "); a != "" {
				address <- a
			}
		}
	}()
	defer func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		<-read
		if err := cmd.Wait(); err != nil {
			t.Errorf("the bridge ended: %v\n%s", err, log)
		}
		// It waited for the orphan without taking the exit status of its own child away.
		if !strings.Contains(log.String(), `exit="exit status 0"`) {
			t.Errorf("the session's end is not told:\n%s", log)
		}
	}()

	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	f := &fixture{url: "http://" + <-address + "/mcp", http: &http.Client{Transport: transport, Timeout: patience}, log: log}
	_, body := f.open(t).post(t, `{"jsonrpc":"2.0","id":5,"method":"test/orphan"}`)
	var answer struct{ Result struct{ Pid int } }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Result.Pid == 0 {
		t.Fatalf("orphan gave %s, %v", body, err)
	}
	eventually(t, "the orphan is waited for", func() bool { return !alive(answer.Result.Pid) })
}
