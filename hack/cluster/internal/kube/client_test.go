// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"strings"
	"testing"
)

func TestConditionTrue(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"true":       {`{"status":{"conditions":[{"type":"Other","status":"False"},{"type":"Ready","status":"True"}]}}`, ""},
		"false":      {`{"status":{"conditions":[{"type":"Ready","status":"False","reason":"NoCNI","message":"not yet"}]}}`, "Ready is False: NoCNI: not yet"},
		"not there":  {`{"status":{}}`, "no condition Ready yet"},
		"not JSON":   {`<html>`, "read conditions"},
		"other only": {`{"status":{"conditions":[{"type":"Other","status":"True"}]}}`, "no condition Ready yet"},
	} {
		err := conditionTrue([]byte(c.body), "Ready")
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestCSVSucceeded(t *testing.T) {
	for body, want := range map[string]string{
		`{"status":{"phase":"Succeeded","reason":"InstallSucceeded"}}`:                          "",
		`{"status":{"phase":"Failed","reason":"ComponentUnhealthy","message":"no such image"}}`: `phase is "Failed": ComponentUnhealthy: no such image`,
		`{}`:     `phase is ""`,
		`<html>`: "read phase",
	} {
		err := csvSucceeded([]byte(body))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", body, err, want)
		}
	}
}
