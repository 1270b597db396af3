// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseRecord(t *testing.T) {
	want := Record{PID: 123, Start: 456, Boot: "b-1"}
	if got, err := ParseRecord(want.String()); err != nil || got != want {
		t.Errorf("round trip: got %+v, %v", got, err)
	}
	for _, s := range []string{"", "123", "123 456", "x 456 b", "123 -1 b", "1 456 b", "0 1 b", "-5 1 b", "123 456 b more"} {
		if r, err := ParseRecord(s); err == nil {
			t.Errorf("ParseRecord(%q) = %+v, want an error", s, r)
		}
	}
}

// fields makes /proc/PID/stat.
func fields(name, state string, start int) string {
	return fmt.Sprintf("77 (%s) %s 1 77 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 %d 0 0", name, state, start)
}

func TestParseStat(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		want    stat
		err     bool
	}{
		"plain":            {content: fields("etcd", "S", 9876), want: stat{'S', 9876}},
		"name with blanks": {content: fields("a) R 1 (b c", "Z", 5), want: stat{'Z', 5}},
		"empty":            {err: true},
		"short":            {content: "77 (etcd) S 1", err: true},
		"no number":        {content: strings.Replace(fields("x", "S", 42), " 42 ", " x ", 1), err: true},
	} {
		if got, err := parseStat(c.content); (err != nil) != c.err || got != c.want {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

// fakeProc has one process, 77, with the given stat.
func fakeProc(t *testing.T, boot, stat string) Proc {
	t.Helper()
	dir := t.TempDir()
	for file, content := range map[string]string{"sys/kernel/random/boot_id": boot + "\n", "77/stat": stat, "77/cmdline": "etcd\x00--data-dir=/state/etcd\x00"} {
		file = filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/cache/etcd (deleted)", filepath.Join(dir, "77/exe")); err != nil {
		t.Fatal(err)
	}
	return Proc(dir)
}

func TestAlive(t *testing.T) {
	r := Record{PID: 77, Start: 100, Boot: "b1"}
	for name, c := range map[string]struct {
		boot, stat string
		record     Record
		want       bool
	}{
		"the same":    {"b1", fields("etcd", "S", 100), r, true},
		"another one": {"b1", fields("vi", "S", 101), r, false},
		"a zombie":    {"b1", fields("etcd", "Z", 100), r, false},
		"rebooted":    {"b2", fields("etcd", "S", 100), r, false},
		"gone":        {"b1", fields("etcd", "S", 100), Record{PID: 78, Start: 100, Boot: "b1"}, false},
	} {
		if got := fakeProc(t, c.boot, c.stat).Alive(c.record); got != c.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
}

func TestFind(t *testing.T) {
	p := fakeProc(t, "b1", fields("etcd", "S", 100))
	found := p.Find(func(exe string, args []string) bool {
		return exe == "/cache/etcd" && reflect.DeepEqual(args, []string{"etcd", "--data-dir=/state/etcd"})
	})
	if want := []Record{{PID: 77, Start: 100, Boot: "b1"}}; !reflect.DeepEqual(found, want) {
		t.Errorf("got %v, want %v", found, want)
	}
	if found := p.Find(func(string, []string) bool { return false }); len(found) != 0 {
		t.Errorf("found %v, want nothing", found)
	}
}

// TestMain lets this program be the daemon of the tests below.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_DAEMON") != "" {
		fmt.Println("started", strings.Join(os.Args[1:], " "))
		if os.Getenv("TEST_DAEMON") == "ends" {
			os.Exit(0)
		}
		<-time.After(time.Minute) // SIGTERM ends it, or the test is broken
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func newSupervisor(t *testing.T) Supervisor {
	t.Helper()
	s := Supervisor{Proc: System, PIDs: t.TempDir(), Logs: t.TempDir()}
	t.Cleanup(func() {
		if err := s.Stop(context.Background(), s.Names()...); err != nil {
			t.Error(err)
		}
	})
	return s
}

func start(t *testing.T, s Supervisor, name, mode string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(Command{Name: name, Path: exe, Args: []string{"hello"}, Env: []string{"TEST_DAEMON=" + mode}}); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within the deadline", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestStartAndStop(t *testing.T) {
	s := newSupervisor(t)
	start(t, s, "a", "runs")
	start(t, s, "b", "ends")
	if got := s.Names(); !slices.Equal(got, []string{"a", "b"}) {
		t.Fatalf("names: got %v", got)
	}
	eventually(t, "b ends", func() bool { return slices.Equal(s.Dead(), []string{"b"}) })
	eventually(t, "a writes its log", func() bool { return strings.Contains(Tail(s.LogFile("a"), 1), "| started hello") })
	if _, alive := s.Lookup("a"); !alive {
		t.Fatal("a is not alive")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Stop(ctx, "a", "b", "never started"); err != nil {
		t.Fatal(err)
	}
	if got := s.Names(); len(got) != 0 {
		t.Errorf("pid files are left: %v", got)
	}
}

func TestStartOfNothing(t *testing.T) {
	s := newSupervisor(t)
	if err := s.Start(Command{Name: "x", Path: "/does/not/exist"}); err == nil {
		t.Error("no error")
	}
	if got := s.Names(); len(got) != 0 {
		t.Errorf("pid files: %v", got)
	}
}

func TestTail(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte("1\n2\n3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := Tail(file, 2); got != "    | 2\n    | 3" {
		t.Errorf("got %q", got)
	}
	if got := Tail(file+"x", 2); !strings.Contains(got, "no such file") {
		t.Errorf("got %q", got)
	}
}
