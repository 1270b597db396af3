// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
	"github.com/vmcp-dev/vmcp-operator/hack/images/image"
)

// imageFormat is part of the archives' names: raise it when what follows changes.
const imageFormat = "1"

// images makes the archives that every node imports.
func (b *Builder) images(ctx context.Context, programs map[string]string) ([]string, error) {
	var files []string
	for _, i := range []struct{ ref, program, user string }{
		{config.PauseImage, programs[Pause], "65535:65535"},
		{config.CoreDNSImage, programs[CoreDNS], "65532:65532"},
	} {
		// The program's directory names its inputs.
		file := filepath.Join(b.Cache, "images", filepath.Base(filepath.Dir(i.program))+"-"+imageFormat+".tar")
		files = append(files, file)
		if _, err := os.Stat(file); err == nil {
			continue
		}
		err := b.locked(ctx, func() error {
			return b.Progress.Step("image "+i.ref, func() error { return writeImage(file, i.ref, i.program, i.user) })
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

// writeImage puts one static program into an image of its own.
func writeImage(file, ref, program, user string) (err error) {
	root, err := os.OpenRoot(filepath.Dir(program))
	if err != nil {
		return fmt.Errorf("image %s: %w", ref, err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	name, executable := filepath.Base(program), fs.FileMode(0o755)
	img, err := image.Build(root, image.Spec{
		Platform: v1.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Config:   v1.Config{User: user, Entrypoint: []string{"/" + name}},
		Layers:   []image.Layer{{Origin: ref, CreatedBy: "COPY " + name, Sources: []string{name}, Dest: "/", Mode: &executable}},
	})
	if err != nil {
		return err
	}
	return image.WriteArchive(file, ref, img)
}
