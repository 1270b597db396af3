// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// entry is one path of a layer.
type entry struct {
	// source is the path below the context; empty for a directory made on the way.
	source string
	info   fs.FileInfo
}

// tree collects the entries of one layer; dirs holds every directory that the
// layers so far, this one included, have made.
type tree struct {
	context *os.Root
	layer   Layer
	entries map[string]entry
	dirs    map[string]bool
}

// tarLayer returns the layer as an uncompressed tar: sorted, dated to the
// epoch, parents before children. It adds the directories it makes to dirs.
func tarLayer(context *os.Root, layer Layer, dirs map[string]bool) ([]byte, error) {
	t := &tree{context: context, layer: layer, entries: map[string]entry{}, dirs: dirs}
	if err := t.collect(); err != nil {
		return nil, err
	}
	return t.tar()
}

func (t *tree) collect() error {
	dest := path.Clean("/" + t.layer.Dest)
	if len(t.layer.Sources) == 0 {
		t.makeDir(dest)
		return nil
	}
	sources, err := t.expand()
	if err != nil {
		return err
	}
	intoDir := strings.HasSuffix(t.layer.Dest, "/") || t.dirs[dest]
	if len(sources) > 1 && !intoDir {
		return fmt.Errorf("with more than one source the destination must be a directory and end with a slash: %q", t.layer.Dest)
	}
	for _, source := range sources {
		if err := t.copy(source, dest, intoDir); err != nil {
			return err
		}
	}
	return nil
}

// expand resolves patterns, in the order of the sources.
func (t *tree) expand() ([]string, error) {
	var all []string
	for _, source := range t.layer.Sources {
		clean := strings.TrimPrefix(path.Clean("/"+source), "/")
		if clean == "" {
			clean = "."
		}
		if !strings.ContainsAny(clean, `*?[\`) {
			all = append(all, clean)
			continue
		}
		matches, err := fs.Glob(t.context.FS(), clean)
		if err != nil {
			return nil, fmt.Errorf("source %q: %w", source, err)
		}
		if len(matches) == 0 {
			return nil, fmt.Errorf("source %q matches no file in the build context %s", source, t.context.Name())
		}
		all = append(all, matches...)
	}
	return all, nil
}

func (t *tree) copy(source, dest string, intoDir bool) error {
	// A link named as a source is followed, one found inside a directory is kept.
	info, err := t.context.Stat(source)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("source %q is not in the build context %s", source, t.context.Name())
	case err != nil:
		return fmt.Errorf("source %q: %w", source, err)
	case info.IsDir():
		return t.copyDir(source, dest)
	case intoDir:
		dest = path.Join(dest, path.Base(source))
	}
	return t.add(dest, entry{source: source, info: info})
}

func (t *tree) copyDir(source, dest string) error {
	return fs.WalkDir(t.context.FS(), source, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("source %q: %w", source, err)
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("source %q: %w", source, err)
		}
		target := path.Join(dest, strings.TrimPrefix(name, source))
		if source == "." {
			target = path.Join(dest, name)
		}
		if name == source { // the content of the directory is copied, not the directory
			t.makeDir(target)
			return nil
		}
		return t.add(target, entry{source: name, info: info})
	})
}

func (t *tree) add(dest string, e entry) error {
	if kind := e.info.Mode().Type(); kind != 0 && kind != fs.ModeDir && kind != fs.ModeSymlink {
		return fmt.Errorf("source %q is neither a file, a directory nor a link (%s)", e.source, e.info.Mode())
	}
	if dest == "/" {
		return fmt.Errorf("source %q is a file and cannot replace the root directory; end the destination with a name", e.source)
	}
	if t.dirs[dest] && !e.info.IsDir() {
		return fmt.Errorf("source %q is a file, but %s is a directory in the image", e.source, dest)
	}
	t.makeDir(path.Dir(dest))
	if e.info.IsDir() {
		t.dirs[dest] = true
	}
	t.entries[dest] = e
	return nil
}

// makeDir adds the directory and its parents where no layer has them yet.
func (t *tree) makeDir(dir string) {
	for ; dir != "/" && !t.dirs[dir]; dir = path.Dir(dir) {
		t.dirs[dir] = true
		t.entries[dir] = entry{}
	}
}

func (t *tree) tar() ([]byte, error) {
	names := make([]string, 0, len(t.entries))
	for name := range t.entries {
		names = append(names, name)
	}
	slices.Sort(names) // "/a" sorts before "/a/b"
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range names {
		if err := t.write(w, name, t.entries[name]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	return out.Bytes(), nil
}

func (t *tree) write(w *tar.Writer, name string, e entry) error {
	header := &tar.Header{
		Name: strings.TrimPrefix(name, "/"), Uid: t.layer.UID, Gid: t.layer.GID,
		ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
	}
	if e.info == nil {
		header.Typeflag, header.Mode, header.Name = tar.TypeDir, 0o755, header.Name+"/"
		return writeHeader(w, header)
	}
	header.Mode = tarMode(e.info.Mode())
	if t.layer.Mode != nil {
		header.Mode = tarMode(*t.layer.Mode)
	}
	switch e.info.Mode().Type() {
	case fs.ModeDir:
		header.Typeflag, header.Name = tar.TypeDir, header.Name+"/"
		return writeHeader(w, header)
	case fs.ModeSymlink:
		link, err := t.context.Readlink(e.source)
		if err != nil {
			return fmt.Errorf("source %q: %w", e.source, err)
		}
		header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, link, 0o777
		return writeHeader(w, header)
	}
	header.Typeflag, header.Size = tar.TypeReg, e.info.Size()
	if err := writeHeader(w, header); err != nil {
		return err
	}
	file, err := t.context.Open(e.source)
	if err != nil {
		return fmt.Errorf("source %q: %w", e.source, err)
	}
	_, err = io.Copy(w, file)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("source %q: %w", e.source, err)
	}
	return nil
}

func writeHeader(w *tar.Writer, header *tar.Header) error {
	if err := w.WriteHeader(header); err != nil {
		return fmt.Errorf("write layer entry %q: %w", header.Name, err)
	}
	return nil
}

// tarMode translates Go's permission bits, sticky and set-id included, to Unix's.
func tarMode(m fs.FileMode) int64 {
	mode := int64(m.Perm())
	for bit, value := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&bit != 0 {
			mode |= value
		}
	}
	return mode
}
