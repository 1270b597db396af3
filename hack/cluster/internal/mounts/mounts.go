// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package mounts finds and removes what is mounted below a directory.
package mounts

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// maxStacked bounds how often one directory is unmounted: mounts can be stacked.
const maxStacked = 16

// Below returns the mount points in the format of proc_pid_mounts(5) that are
// dir or below it, those mounted later first, so that they can be unmounted in order.
func Below(mounts, dir string) []string {
	var list []string
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		if point := unescape(f[1]); point == dir || strings.HasPrefix(point, dir+"/") {
			list = append(list, point)
		}
	}
	slices.Reverse(list)
	return list
}

// unescape resolves the octal escapes of blanks and backslashes.
func unescape(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+4 > len(s) {
			continue
		}
		if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
			s = s[:i] + string([]byte{byte(n)}) + s[i+4:]
		}
	}
	return s
}

// UnmountBelow unmounts everything at or below dir. What is busy is detached,
// and vanishes when its last user does.
func UnmountBelow(dir string) error {
	var failures error
	for range maxStacked {
		content, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			return fmt.Errorf("list mounts: %w", err)
		}
		points := Below(string(content), dir)
		if len(points) == 0 {
			return nil
		}
		failures = nil
		for _, point := range points {
			if syscall.Unmount(point, 0) == nil {
				continue
			}
			// EINVAL: it went away with the one it was mounted on.
			if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
				failures = errors.Join(failures, fmt.Errorf("unmount %s: %w", point, err))
			}
		}
		if failures != nil {
			break
		}
	}
	return failures
}

// BindShared makes dir a mount of its own that propagates, so that mount
// propagation works in pods although the root file system may be private.
func BindShared(dir string) error {
	if err := syscall.Mount(dir, dir, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind mount %s: %w", dir, err)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_SHARED|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("share mount %s: %w", dir, err)
	}
	return nil
}
