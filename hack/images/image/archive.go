// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

const (
	// annotationName is where containerd's importer reads the full image name.
	annotationName = "io.containerd.image.name"
	// annotationRef is the OCI image specification's (annotations.md); Docker reads it.
	annotationRef = "org.opencontainers.image.ref.name"
	// layoutFile is oci-layout of the OCI image layout specification.
	layoutFile = `{"imageLayoutVersion":"1.0.0"}`
)

// dockerManifest is one item of manifest.json as "docker save" writes it beside
// the OCI layout; Docker without the containerd image store loads only this.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// Reference parses NAME:TAG and returns it in full, as containerd stores it and
// as the kubelet asks for it: "app:1" is "docker.io/library/app:1".
func Reference(ref string) (full, tag string, err error) {
	t, err := name.NewTag(ref)
	if err != nil {
		return "", "", fmt.Errorf("image name %q: want NAME:TAG: %w", ref, err)
	}
	if !strings.HasSuffix(ref, ":"+t.TagStr()) {
		return "", "", fmt.Errorf("image name %q has no tag: want NAME:TAG", ref)
	}
	registry := t.RegistryStr()
	if registry == name.DefaultRegistry {
		registry = "docker.io"
	}
	return registry + "/" + t.RepositoryStr() + ":" + t.TagStr(), t.TagStr(), nil
}

// WriteArchive writes the image, under the name ref, as a tar of an OCI image
// layout. The file appears whole or not at all.
func WriteArchive(file, ref string, img v1.Image) error {
	return writeArchive(file, ref, func(out io.Writer, full, tag string) error { return writeLayout(out, full, tag, img) })
}

// writeArchive makes the file of what write writes, for the name ref in full and its tag.
func writeArchive(file, ref string, write func(out io.Writer, full, tag string) error) (err error) {
	full, tag, err := Reference(ref)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write archive %s: %w", file, errors.Join(err, os.Remove(tmp.Name())))
		}
	}()
	err = errors.Join(write(tmp, full, tag), tmp.Chmod(0o644), tmp.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}

func writeLayout(out io.Writer, full, tag string, img v1.Image) error {
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	index, err := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
		Add: img,
		Descriptor: v1.Descriptor{
			Platform:    platformOf(config),
			Annotations: annotations(full, tag),
		},
	}).RawManifest()
	if err != nil {
		return err
	}
	w := tar.NewWriter(out)
	docker, err := writeBlobs(w, img, map[v1.Hash]bool{})
	if err != nil {
		return err
	}
	docker.RepoTags = []string{full}
	manifest, err := json.Marshal([]dockerManifest{docker})
	if err != nil {
		return err
	}
	return errors.Join(
		writeFile(w, "index.json", index),
		writeFile(w, "manifest.json", manifest),
		writeFile(w, "oci-layout", []byte(layoutFile)),
		w.Close(),
	)
}

func platformOf(config *v1.ConfigFile) *v1.Platform {
	return &v1.Platform{OS: config.OS, Architecture: config.Architecture, Variant: config.Variant}
}

func annotations(full, tag string) map[string]string {
	return map[string]string{annotationName: full, annotationRef: tag}
}

// writeBlobs writes manifest, config and layers, each once unless it is written
// already, and says where the latter two are.
func writeBlobs(w *tar.Writer, img v1.Image, written map[v1.Hash]bool) (dockerManifest, error) {
	var paths dockerManifest
	manifest, err := img.RawManifest()
	if err != nil {
		return paths, err
	}
	digest, err := img.Digest()
	if err != nil {
		return paths, err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return paths, err
	}
	configName, err := img.ConfigName()
	if err != nil {
		return paths, err
	}
	paths.Config = blobPath(configName)
	if err := errors.Join(writeFile(w, blobPath(digest), manifest), writeFile(w, paths.Config, config)); err != nil {
		return paths, err
	}
	layers, err := img.Layers()
	if err != nil {
		return paths, err
	}
	for _, layer := range layers {
		digest, err := layer.Digest()
		if err != nil {
			return paths, err
		}
		paths.Layers = append(paths.Layers, blobPath(digest))
		if written[digest] {
			continue
		}
		written[digest] = true
		if err := writeLayerBlob(w, blobPath(digest), layer); err != nil {
			return paths, err
		}
	}
	return paths, nil
}

func writeLayerBlob(w *tar.Writer, file string, layer v1.Layer) error {
	size, err := layer.Size()
	if err != nil {
		return err
	}
	content, err := layer.Compressed()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(archiveHeader(file, size)); err != nil {
		return errors.Join(err, content.Close())
	}
	_, err = io.Copy(w, content)
	return errors.Join(err, content.Close())
}

func writeFile(w *tar.Writer, file string, content []byte) error {
	if err := w.WriteHeader(archiveHeader(file, int64(len(content)))); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

func archiveHeader(file string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: file, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
}

func blobPath(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// OpenArchive unpacks an archive of exactly one image into dir, from where the
// returned image reads its layers.
func OpenArchive(file, dir string) (v1.Image, error) {
	index, content, err := openArchive(file, dir)
	if err != nil {
		return nil, err
	}
	if content.MediaType.IsIndex() {
		return nil, fmt.Errorf("read archive %s: it holds an index of images, want one image", file)
	}
	img, err := index.Image(content.Digest)
	if err != nil {
		return nil, fmt.Errorf("read archive %s: %w", file, err)
	}
	return img, nil
}

// openArchive unpacks an archive of one image, or of one index of images, and
// says which.
func openArchive(file, dir string) (v1.ImageIndex, v1.Descriptor, error) {
	if err := untar(file, dir); err != nil {
		return nil, v1.Descriptor{}, fmt.Errorf("read archive %s: %w", file, err)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, v1.Descriptor{}, fmt.Errorf("read archive %s: not an OCI image layout: %w", file, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, v1.Descriptor{}, fmt.Errorf("read archive %s: %w", file, err)
	}
	if len(manifest.Manifests) != 1 {
		return nil, v1.Descriptor{}, fmt.Errorf("read archive %s: it holds %d images, want 1", file, len(manifest.Manifests))
	}
	return index, manifest.Manifests[0], nil
}

// ArchiveReference returns the name in full, REGISTRY/NAME:TAG, of the one image of an archive.
func ArchiveReference(file string) (ref string, err error) {
	in, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read archive: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	for r := tar.NewReader(in); ; {
		header, err := r.Next()
		if err != nil {
			return "", fmt.Errorf("read archive %s: no index.json: %w", file, err)
		}
		if strings.TrimPrefix(header.Name, "./") != "index.json" {
			continue
		}
		index, err := v1.ParseIndexManifest(r)
		if err != nil {
			return "", fmt.Errorf("read archive %s: %w", file, err)
		}
		if len(index.Manifests) != 1 || index.Manifests[0].Annotations[annotationName] == "" {
			return "", fmt.Errorf("read archive %s: want one image with annotation %s", file, annotationName)
		}
		return index.Manifests[0].Annotations[annotationName], nil
	}
}

// untar unpacks plain files; nothing can be written outside dir.
func untar(file, dir string) (err error) {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for r := tar.NewReader(in); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if err := unpackFile(root, strings.TrimPrefix(header.Name, "./"), r); err != nil {
			return err
		}
	}
}

func unpackFile(root *os.Root, file string, content io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	out, err := root.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, content)
	return errors.Join(err, out.Close())
}
