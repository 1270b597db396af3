// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"reflect"
	"slices"
	"testing"
)

const (
	version1 = `tmpfs /sys/fs/cgroup tmpfs rw,mode=755 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
cgroup /elsewhere cgroup rw,pids 0 0
`
	version2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"
)

func TestParse(t *testing.T) {
	for mounts, want := range map[string][]Hierarchy{
		version1: {
			{"/sys/fs/cgroup/cpu,cpuacct", []string{"rw", "relatime", "cpu", "cpuacct"}},
			{"/sys/fs/cgroup/memory", []string{"rw", "relatime", "memory"}},
			{"/sys/fs/cgroup/unified", nil},
		},
		version2: {{"/sys/fs/cgroup", nil}},
		"":       nil,
	} {
		if got := Parse(mounts); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

func TestMissing(t *testing.T) {
	for name, c := range map[string]struct {
		mounts string
		v2     []string
		want   []string
	}{
		"version 1 without some": {version1, nil, []string{"cpuset", "pids"}},
		"version 2":              {version2, []string{"cpuset", "cpu", "io", "memory", "pids"}, nil},
		"version 2 without one":  {version2, []string{"cpuset", "cpu", "pids"}, []string{"memory"}},
		"none":                   {"", nil, []string{"cpu", "cpuset", "memory", "pids"}},
	} {
		if got := Missing(Parse(c.mounts), c.v2); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}
