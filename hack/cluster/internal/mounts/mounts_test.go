// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package mounts

import (
	"slices"
	"testing"
)

func TestBelow(t *testing.T) {
	const list = `proc /proc proc rw 0 0
/dev/vda /s/kubelet ext4 rw 0 0
tmpfs /s/kubelet/pods/1/token tmpfs rw 0 0
overlay /s/run/with\040blank\134x overlay rw 0 0
tmpfs /state tmpfs rw 0 0
tmpfs /s/kubelet/pods/1/token tmpfs rw 0 0
malformed
`
	for dir, want := range map[string][]string{
		"/s":         {"/s/kubelet/pods/1/token", `/s/run/with blank\x`, "/s/kubelet/pods/1/token", "/s/kubelet"},
		"/s/kubelet": {"/s/kubelet/pods/1/token", "/s/kubelet/pods/1/token", "/s/kubelet"},
		"/s/kube":    nil,
		"/none":      nil,
	} {
		if got := Below(list, dir); !slices.Equal(got, want) {
			t.Errorf("below %s:\n got %q\nwant %q", dir, got, want)
		}
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{`a`: "a", `a\040b`: "a b", `\134040`: `\040`, `\04`: `\04`, `\999`: `\999`, ``: ""} {
		if got := unescape(in); got != want {
			t.Errorf("unescape(%q) = %q, want %q", in, got, want)
		}
	}
}
