// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Platform is one image of an index.
type Platform struct {
	// Name is OS/ARCHITECTURE.
	Name string
	// Digest is that of the image's manifest.
	Digest string
	// Size is the number of bytes that a registry stores for the image: manifest, configuration and layers.
	Size int64
}

// Index is what WriteIndexArchive wrote.
type Index struct {
	// Digest is that of the index: what a reference to the image of any platform is pinned to.
	Digest string
	// Platforms are the images, in the order of the archives.
	Platforms []Platform
}

// WriteIndexArchive makes one archive of the archives of an image for several platforms: an OCI image index under the name ref, which a
// registry takes by Push and containerd loads. Two images for one platform are an error. The file appears whole or not at all.
func WriteIndexArchive(file, ref string, archives []string) (result Index, err error) {
	dir, err := os.MkdirTemp("", "image-index-")
	if err != nil {
		return Index{}, fmt.Errorf("unpack archives: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	images := make([]v1.Image, len(archives))
	seen := map[string]string{}
	for i, archive := range archives {
		img, platform, err := openPlatform(archive, filepath.Join(dir, strconv.Itoa(i)))
		if err != nil {
			return Index{}, err
		}
		described, err := describe(img, platform)
		if err != nil {
			return Index{}, fmt.Errorf("read archive %s: %w", archive, err)
		}
		if before, twice := seen[described.Name]; twice {
			return Index{}, fmt.Errorf("archives %s and %s are both for %s", before, archive, described.Name)
		}
		seen[described.Name] = archive
		images[i] = img
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: platform}})
		result.Platforms = append(result.Platforms, described)
	}
	digest, err := index.Digest()
	if err != nil {
		return Index{}, fmt.Errorf("compute digest: %w", err)
	}
	result.Digest = digest.String()
	return result, writeArchive(file, ref, func(out io.Writer, full, tag string) error { return writeIndexLayout(out, full, tag, index, images) })
}

func openPlatform(archive, dir string) (v1.Image, *v1.Platform, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("unpack archive %s: %w", archive, err)
	}
	img, err := OpenArchive(archive, dir)
	if err != nil {
		return nil, nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, nil, fmt.Errorf("read archive %s: %w", archive, err)
	}
	return img, platformOf(config), nil
}

func describe(img v1.Image, platform *v1.Platform) (Platform, error) {
	digest, err := img.Digest()
	if err != nil {
		return Platform{}, err
	}
	size, err := img.Size()
	if err != nil {
		return Platform{}, err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return Platform{}, err
	}
	size += manifest.Config.Size
	for _, layer := range manifest.Layers {
		size += layer.Size
	}
	return Platform{Name: platform.String(), Digest: digest.String(), Size: size}, nil
}

// writeIndexLayout writes a layout whose only entry is the index. There is no manifest.json beside it, as "docker save" has none for
// more than one platform.
func writeIndexLayout(out io.Writer, full, tag string, index v1.ImageIndex, images []v1.Image) error {
	outer, err := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
		Add: index, Descriptor: v1.Descriptor{Annotations: annotations(full, tag)},
	}).RawManifest()
	if err != nil {
		return err
	}
	manifest, err := index.RawManifest()
	if err != nil {
		return err
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	w := tar.NewWriter(out)
	written := map[v1.Hash]bool{}
	for _, img := range images {
		if _, err := writeBlobs(w, img, written); err != nil {
			return err
		}
	}
	return errors.Join(
		writeFile(w, blobPath(digest), manifest),
		writeFile(w, "index.json", outer),
		writeFile(w, "oci-layout", []byte(layoutFile)),
		w.Close(),
	)
}
