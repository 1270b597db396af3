// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"slices"
	"testing"
)

func TestHostsOf(t *testing.T) {
	for listen, want := range map[string][]string{
		"127.0.0.1:80":     nil,
		"[::1]:80":         nil,
		"192.0.2.7:80":     {"192.0.2.7"},
		"[2001:db8::1]:80": {"2001:db8::1"},
		"box.example:80":   {"box.example"},
	} {
		if got, err := hostsOf(listen); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", listen, got, err, want)
		}
	}
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, listen := range []string{":80", "0.0.0.0:80", "[::]:80"} {
		if got, err := hostsOf(listen); err != nil || !slices.Contains(got, name) || slices.Contains(got, "127.0.0.1") {
			t.Errorf("%s: %q, %v; want %q among them and no loopback", listen, got, err, name)
		}
	}
	if _, err := hostsOf("80"); err == nil {
		t.Error("80: no error")
	}
}

func TestWithoutQuery(t *testing.T) {
	for raw, want := range map[string]string{
		"https://example.com/mcp":          "https://example.com/mcp",
		"https://example.com/mcp?key=abc":  "https://example.com/mcp?...",
		"https://example.com/a?b=c&d=e%2F": "https://example.com/a?...",
	} {
		if got := withoutQuery(raw); got != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
	}
}
