// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// PushOptions says how to reach a registry.
type PushOptions struct {
	// PlainHTTP allows http for any registry. Loopback, localhost and private
	// addresses need no permission: https is tried there first, then http.
	PlainHTTP bool
	// Authority is a file with certificates of authorities (PEM) that are trusted beside the system's; empty for none.
	Authority string
}

// Push uploads the image of an archive, or its index with all its images, to REGISTRY/NAME:TAG and returns
// REGISTRY/NAME@DIGEST. Credentials come from Docker's configuration file.
func Push(ctx context.Context, archive, to string, opts PushOptions) (string, error) {
	nameOpts := []name.Option{name.StrictValidation}
	if opts.PlainHTTP {
		nameOpts = append(nameOpts, name.Insecure)
	}
	ref, err := name.NewTag(to, nameOpts...)
	if err != nil {
		return "", fmt.Errorf("push target %q: want REGISTRY/NAME:TAG: %w", to, err)
	}
	dir, err := os.MkdirTemp("", "image-push-")
	if err != nil {
		return "", fmt.Errorf("unpack archive: %w", err)
	}
	defer os.RemoveAll(dir)
	index, content, err := openArchive(archive, dir)
	if err != nil {
		return "", err
	}
	transport, err := opts.transport()
	if err != nil {
		return "", fmt.Errorf("push %s: %w", ref, err)
	}
	defer transport.CloseIdleConnections()
	remoteOpts := []remote.Option{remote.WithContext(ctx), remote.WithTransport(transport), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	if err := write(ref, index, content, remoteOpts); err != nil {
		return "", fmt.Errorf("push %s: %w", ref, err)
	}
	return ref.Context().Name() + "@" + content.Digest.String(), nil
}

func write(ref name.Reference, index v1.ImageIndex, content v1.Descriptor, opts []remote.Option) error {
	if content.MediaType.IsIndex() {
		images, err := index.ImageIndex(content.Digest)
		if err != nil {
			return err
		}
		return remote.WriteIndex(ref, images, opts...)
	}
	img, err := index.Image(content.Digest)
	if err != nil {
		return err
	}
	return remote.Write(ref, img, opts...)
}

// transport is the library's, with the authorities that the options add.
func (o PushOptions) transport() (*http.Transport, error) {
	transport := remote.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // documented as one
	if o.Authority == "" {
		return transport, nil
	}
	pem, err := os.ReadFile(o.Authority)
	if err != nil {
		return nil, fmt.Errorf("read authorities: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read the system's authorities: %w", err)
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read authorities: %s holds no certificate", o.Authority)
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return transport, nil
}
