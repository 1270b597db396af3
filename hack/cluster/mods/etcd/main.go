// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command etcd is the etcd server at the version pinned in go.mod.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
