// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package bridge

import (
	"os"
	"os/exec"
)

func ownProcessGroup(*exec.Cmd) {}

// terminateGroup does nothing: there is no signal that asks. killGroup follows.
func terminateGroup(*os.Process) {}

func killGroup(leader *os.Process) {
	_ = leader.Kill() // it may have ended, which is what is wanted
}
