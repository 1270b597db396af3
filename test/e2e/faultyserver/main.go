// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Faultyserver is package faulty as the program of an image.
package main

import (
	"log"
	"os"

	"github.com/vmcp-dev/vmcp-operator/test/faulty"
)

func main() {
	if err := faulty.Run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}
