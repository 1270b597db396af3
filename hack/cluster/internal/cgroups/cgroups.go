// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cgroups makes and removes the control group that holds every pod of
// the cluster, in version 1 and version 2 of the kernel's interface (cgroups(7)).
package cgroups

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// required are the controllers the kubelet insists on.
var required = []string{"cpu", "cpuset", "memory", "pids"}

// Hierarchy is one mounted cgroup file system.
type Hierarchy struct {
	Path        string
	Controllers []string // of version 1; nil for version 2
}

// Parse returns the hierarchies in a list of mounts (proc_pid_mounts(5)), in order.
func Parse(mounts string) []Hierarchy {
	var list []Hierarchy
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[1], "/sys/fs/cgroup") {
			continue
		}
		switch f[2] {
		case "cgroup":
			list = append(list, Hierarchy{Path: f[1], Controllers: strings.Split(f[3], ",")})
		case "cgroup2":
			list = append(list, Hierarchy{Path: f[1]})
		}
	}
	return list
}

// Missing returns the required controllers that no hierarchy of version 1 has;
// none are missing where version 2 is mounted at the top, whose controllers are given.
func Missing(list []Hierarchy, v2Controllers []string) []string {
	have := slices.Clone(v2Controllers)
	for _, h := range list {
		have = append(have, h.Controllers...)
	}
	return slices.DeleteFunc(slices.Clone(required), func(c string) bool { return slices.Contains(have, c) })
}

// Mounted returns the machine's hierarchies and, where version 2 is mounted at
// the top, its controllers.
func Mounted() (list []Hierarchy, v2Controllers []string, err error) {
	content, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, nil, fmt.Errorf("list mounts: %w", err)
	}
	list = Parse(string(content))
	available, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	if errors.Is(err, fs.ErrNotExist) {
		return list, nil, nil
	}
	return list, strings.Fields(string(available)), err
}

// Create makes the group in every hierarchy.
func Create(name string) error {
	list, v2, err := Mounted()
	if err != nil {
		return err
	}
	for _, h := range list {
		dir := filepath.Join(h.Path, name)
		if len(v2) > 0 && h.Controllers == nil {
			if err := delegate(h.Path); err != nil {
				return err
			}
		}
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make cgroup: %w", err)
		}
		if len(v2) > 0 && h.Controllers == nil {
			err = delegate(dir)
		}
		if slices.Contains(h.Controllers, "cpuset") {
			err = inheritCPUSet(h.Path, dir)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// delegate lets the children of a version 2 group use the required controllers.
func delegate(dir string) error {
	for _, c := range required {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0o644); err != nil {
			return fmt.Errorf("enable cgroup controller %s: %w", c, err)
		}
	}
	return nil
}

// inheritCPUSet fills what a new version 1 cpuset leaves empty; without it no
// process can join.
func inheritCPUSet(parent, child string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := os.ReadFile(filepath.Join(child, file))
		if err != nil {
			return fmt.Errorf("read cpuset: %w", err)
		}
		if strings.TrimSpace(string(own)) != "" {
			continue
		}
		value, err := os.ReadFile(filepath.Join(parent, file))
		if err == nil {
			err = os.WriteFile(filepath.Join(child, file), value, 0o644)
		}
		if err != nil {
			return fmt.Errorf("inherit cpuset: %w", err)
		}
	}
	return nil
}

// groups returns the group's directory and all below it, children first, in every hierarchy.
func groups(name string) ([]string, error) {
	list, _, err := Mounted()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, h := range list {
		err := filepath.WalkDir(filepath.Join(h.Path, name), func(p string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // gone, as it should
			}
			if err == nil && d.IsDir() {
				dirs = append(dirs, p)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("list cgroups: %w", err)
		}
	}
	slices.Reverse(dirs)
	return dirs, nil
}

// Exists tells whether the group is there in any hierarchy.
func Exists(name string) bool {
	dirs, err := groups(name)
	return err == nil && len(dirs) > 0
}

// KillAndRemove kills every process in the group and removes it.
func KillAndRemove(ctx context.Context, name string) error {
	for {
		dirs, err := groups(name)
		if err != nil || len(dirs) == 0 {
			return err
		}
		var failure error
		for _, dir := range dirs {
			kill(dir)
			if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				failure = fmt.Errorf("remove cgroup %s: %w", dir, err)
			}
		}
		if failure == nil {
			continue // look again: something may have been made meanwhile
		}
		select {
		case <-ctx.Done():
			return failure
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func kill(dir string) {
	content, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return // gone
	}
	for _, s := range strings.Fields(string(content)) {
		// Only what runs in our own group; an error means that it just ended.
		if pid, err := strconv.Atoi(s); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
