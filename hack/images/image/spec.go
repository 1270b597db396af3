// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package image turns files into an OCI image and an OCI image into an archive
// that containerd and Docker load. The same input always gives the same bytes.
package image

import (
	"io/fs"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Spec is everything an image is made of, apart from the content of its files.
type Spec struct {
	// Platform is what the image runs on, linux/amd64 for example.
	Platform v1.Platform
	// Config is the runtime configuration: user, entry point, environment.
	Config v1.Config
	// Layers are applied in order, one image layer each.
	Layers []Layer
}

// Layer is one COPY, or, without Sources, one directory that has to exist.
type Layer struct {
	// Origin names the place that asked for the layer ("Dockerfile:7"), for errors.
	Origin string
	// CreatedBy goes into the image's history.
	CreatedBy string
	// Sources are slash-separated paths or [path.Match] patterns below the build context.
	Sources []string
	// Dest is the absolute path in the image; a final slash makes it a directory.
	Dest string
	// UID and GID own what is copied, and the directories made for it.
	UID, GID int
	// Mode replaces the permissions of what is copied; nil keeps those of the source.
	Mode *fs.FileMode
}

// Clone returns a Spec that shares nothing with the receiver.
func (s Spec) Clone() Spec {
	s.Config = *s.Config.DeepCopy()
	s.Layers = slices.Clone(s.Layers)
	return s
}
