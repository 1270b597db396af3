// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command registry is an image registry (OCI distribution specification) for
// one cluster, over TLS. It keeps blobs in a directory, manifests in memory.
package main

import (
	"flag"
	"log"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	listen := flag.String("listen", "", "HOST:PORT to listen on")
	blobs := flag.String("blobs", "", "directory of blobs; it must exist")
	cert := flag.String("cert", "", "certificate file")
	key := flag.String("key", "", "key file of the certificate")
	flag.Parse()
	// The library reads the body of one upload at a time. Over HTTP/2 the others, which share its connection, would fill the
	// connection's window meanwhile, and all would wait for ever.
	oneAtATime := &http.Protocols{}
	oneAtATime.SetHTTP1(true)
	server := http.Server{
		Protocols:         oneAtATime,
		Addr:              *listen,
		Handler:           registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(*blobs)), registry.WithReferrersSupport(true)),
		ReadHeaderTimeout: 10 * time.Second,
	}
	log.Fatal(server.ListenAndServeTLS(*cert, *key))
}
