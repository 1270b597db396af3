// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
	"github.com/vmcp-dev/vmcp-operator/hack/images/image"
)

// imageFormat is part of the archives' names: raise it when the way changes in which they are made.
const imageFormat = "2"

// container is an image of static programs. What it is made of is in the
// cache, in directories that are named after their own inputs.
type container struct {
	Ref    string
	Config v1.Config
	// Trees are directories whose content is the image's, from the root on.
	Trees []string
	// Programs are files, put into directory Dir of the image.
	Programs []string
	Dir      string
}

// nodeImages are what every node imports.
func nodeImages(programs map[string]string) []container {
	return []container{
		ofOneProgram(config.PauseImage, programs[Pause], "65535:65535"),
		ofOneProgram(config.CoreDNSImage, programs[CoreDNS], "65532:65532"),
	}
}

func ofOneProgram(ref, program, user string) container {
	return container{
		Ref: ref, Config: v1.Config{User: user, Entrypoint: []string{"/" + filepath.Base(program)}},
		Programs: []string{program}, Dir: "/",
	}
}

// images returns the archives of the containers; those that are missing are made.
func (b *Builder) images(ctx context.Context, containers []container) ([]string, error) {
	var files []string
	for _, c := range containers {
		id, err := c.id()
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", c.Ref, err)
		}
		file := filepath.Join(b.Cache, "images", id+".tar")
		files = append(files, file)
		if _, err := os.Stat(file); err == nil {
			continue
		}
		err = b.locked(ctx, func() error {
			return b.Progress.Step("image "+c.Ref, func() error { return b.writeImage(file, c) })
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

// id names an archive after all that decides what is in it.
func (c container) id() (string, error) {
	inputs, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append(inputs, imageFormat...))
	name, _, _ := strings.Cut(path.Base(c.Ref), ":")
	return name + "-" + hex.EncodeToString(sum[:])[:12], nil
}

func (b *Builder) writeImage(file string, c container) (err error) {
	root, err := os.OpenRoot(b.Cache)
	if err != nil {
		return fmt.Errorf("image %s: %w", c.Ref, err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	spec := image.Spec{Platform: v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, Config: c.Config}
	add := func(source, dest string, mode *fs.FileMode) error {
		relative, err := filepath.Rel(b.Cache, source)
		if err != nil {
			return fmt.Errorf("image %s: %w", c.Ref, err)
		}
		spec.Layers = append(spec.Layers, image.Layer{
			Origin: c.Ref, CreatedBy: "COPY " + filepath.Base(source) + " " + dest, Sources: []string{relative}, Dest: dest, Mode: mode,
		})
		return nil
	}
	for _, tree := range c.Trees {
		if err := add(tree, "/", nil); err != nil {
			return err
		}
	}
	executable := fs.FileMode(0o755)
	for _, program := range c.Programs {
		if err := add(program, strings.TrimSuffix(c.Dir, "/")+"/", &executable); err != nil {
			return err
		}
	}
	img, err := image.Build(root, spec)
	if err != nil {
		return err
	}
	return image.WriteArchive(file, c.Ref, img)
}
