// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/vmcp-dev/vmcp-operator/hack/images/image"
)

// newContext makes a build context; a value that starts with "->" is a link.
func newContext(t *testing.T, files map[string]string) *os.Root {
	t.Helper()
	dir := t.TempDir()
	for file, content := range files {
		file = filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "->"); ok {
			err = os.Symlink(target, file)
		} else {
			err = os.WriteFile(file, []byte(content), 0o640)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func spec(layers ...image.Layer) image.Spec {
	for i := range layers {
		layers[i].Origin = fmt.Sprintf("Dockerfile:%d", i+1)
	}
	return image.Spec{
		Platform: v1.Platform{OS: "linux", Architecture: "amd64"},
		Config:   v1.Config{User: "65532", Entrypoint: []string{"/app"}, Env: []string{"A=1"}},
		Layers:   layers,
	}
}

func layer(dest string, sources ...string) image.Layer {
	return image.Layer{Dest: dest, Sources: sources}
}

// list describes every entry of every layer: mode, owner, name, link, content.
func list(t *testing.T, img v1.Image) []string {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for tr := tar.NewReader(r); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if !h.ModTime.Equal(time.Unix(0, 0)) {
				t.Errorf("%s is dated %v, want the epoch", h.Name, h.ModTime)
			}
			content, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, strings.TrimRight(fmt.Sprintf("%04o %d:%d %s %s%s", h.Mode, h.Uid, h.Gid, h.Name, h.Linkname, content), " "))
		}
	}
	return out
}

func TestCopySemantics(t *testing.T) {
	executable, sticky := fs.FileMode(0o755), 0o777|fs.ModeSticky
	files := map[string]string{"bin/app": "APP", "bin/tool": "TOOL", "etc/a.conf": "A", "etc/d/b.conf": "B", "etc/link": "->a.conf", "link": "->bin/app"}
	for name, c := range map[string]struct {
		layers []image.Layer
		want   []string
	}{
		"file to name":              {[]image.Layer{layer("/usr/bin/x", "bin/app")}, []string{"0755 0:0 usr/", "0755 0:0 usr/bin/", "0640 0:0 usr/bin/x APP"}},
		"file into directory":       {[]image.Layer{layer("/b/", "bin/app")}, []string{"0755 0:0 b/", "0640 0:0 b/app APP"}},
		"file into root":            {[]image.Layer{layer("/", "bin/app")}, []string{"0640 0:0 app APP"}},
		"several files":             {[]image.Layer{layer("/b/", "bin/tool", "/bin/app")}, []string{"0755 0:0 b/", "0640 0:0 b/app APP", "0640 0:0 b/tool TOOL"}},
		"pattern":                   {[]image.Layer{layer("/b/", "bin/*")}, []string{"0755 0:0 b/", "0640 0:0 b/app APP", "0640 0:0 b/tool TOOL"}},
		"content of directory":      {[]image.Layer{layer("/e", "etc")}, []string{"0755 0:0 e/", "0640 0:0 e/a.conf A", "0755 0:0 e/d/", "0640 0:0 e/d/b.conf B", "0777 0:0 e/link a.conf"}},
		"named link is followed":    {[]image.Layer{layer("/x", "link")}, []string{"0640 0:0 x APP"}},
		"earlier directory is used": {[]image.Layer{{Dest: "/w"}, layer("/w", "bin/app")}, []string{"0755 0:0 w/", "0640 0:0 w/app APP"}},
		"mode": {
			[]image.Layer{{Dest: "/app", Sources: []string{"bin/app"}, Mode: &executable}},
			[]string{"0755 0:0 app APP"},
		},
		"owner and sticky directory": {
			[]image.Layer{{Dest: "/e/d", Sources: []string{"etc"}, UID: 7, GID: 8, Mode: &sticky}},
			[]string{"0755 7:8 e/", "0755 7:8 e/d/", "1777 7:8 e/d/a.conf A", "1777 7:8 e/d/d/", "1777 7:8 e/d/d/b.conf B", "0777 7:8 e/d/link a.conf"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			img, err := image.Build(newContext(t, files), spec(c.layers...))
			if err != nil {
				t.Fatal(err)
			}
			if got := list(t, img); !reflect.DeepEqual(got, c.want) {
				t.Errorf("\n got %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestBuildErrors(t *testing.T) {
	files := map[string]string{"a": "A", "b": "B", "out": "->../../../../etc/hostname"}
	for name, c := range map[string]struct {
		layer image.Layer
		want  string
	}{
		"missing":                            {layer("/x", "nothing"), `Dockerfile:1: source "nothing" is not in the build context`},
		"no match":                           {layer("/x/", "*.conf"), `Dockerfile:1: source "*.conf" matches no file`},
		"bad pattern":                        {layer("/x/", "[a"), `Dockerfile:1: source "[a": syntax error`},
		"match onto one":                     {layer("/x", "[ab]"), "Dockerfile:1: with more than one source"},
		"link that ends outside the context": {layer("/x", "out"), `Dockerfile:1: source "out"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := image.Build(newContext(t, files), spec(c.layer))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestSameInputSameBytes(t *testing.T) {
	files := map[string]string{"bin/app": "APP", "etc/a.conf": "A", "etc/d/b.conf": "B"}
	build := func(files map[string]string) (v1.Hash, []byte) {
		img, err := image.Build(newContext(t, files), spec(layer("/app", "bin/app"), layer("/etc", "etc")))
		if err != nil {
			t.Fatal(err)
		}
		digest, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "image.tar")
		if err := image.WriteArchive(file, "example.com/app:1", img); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return digest, content
	}
	digest1, archive1 := build(files)
	digest2, archive2 := build(files)
	if digest1 != digest2 {
		t.Errorf("digests differ: %s and %s", digest1, digest2)
	}
	if !bytes.Equal(archive1, archive2) {
		t.Error("archives differ")
	}
	files["etc/a.conf"] = "changed"
	if digest3, _ := build(files); digest3 == digest1 {
		t.Error("another content has the same digest")
	}
}

// build returns a small image and the archive that holds it as ref.
func build(t *testing.T, ref string) (v1.Image, string) {
	t.Helper()
	img, err := image.Build(newContext(t, map[string]string{"app": "APP"}), spec(layer("/app", "app"), layer("/b/", "app")))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "new", "image.tar")
	if err := image.WriteArchive(file, ref, img); err != nil {
		t.Fatal(err)
	}
	return img, file
}

func TestArchiveIsACompleteLayout(t *testing.T) {
	want, file := build(t, "example.com/team/app:1.2")
	got, err := image.OpenArchive(file, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if g, w := list(t, got), list(t, want); !reflect.DeepEqual(g, w) {
		t.Errorf("files:\n got %q\nwant %q", g, w)
	}
	wantConfig, err := want.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	gotConfig, err := got.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(gotConfig, wantConfig) {
		t.Errorf("config:\n got %+v\nwant %+v", gotConfig, wantConfig)
	}
	if c := gotConfig.Config; c.User != "65532" || !reflect.DeepEqual(c.Entrypoint, []string{"/app"}) || !reflect.DeepEqual(c.Env, []string{"A=1"}) {
		t.Errorf("config is not that of the spec: %+v", c)
	}
}

func TestArchiveNamesTheImage(t *testing.T) {
	_, file := build(t, "app:1.2")
	content := map[string][]byte{}
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if content[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(content["index.json"], &index); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"io.containerd.image.name": "docker.io/library/app:1.2", "org.opencontainers.image.ref.name": "1.2"}
	if got := index.Manifests[0].Annotations; !reflect.DeepEqual(got, want) {
		t.Errorf("annotations: got %v, want %v", got, want)
	}
	var docker []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(content["manifest.json"], &docker); err != nil {
		t.Fatal(err)
	}
	if got := docker[0].RepoTags; !reflect.DeepEqual(got, []string{"docker.io/library/app:1.2"}) {
		t.Errorf("Docker's tags: got %q", got)
	}
	for _, blob := range append(docker[0].Layers, docker[0].Config) {
		if got := fmt.Sprintf("blobs/sha256/%x", sha256.Sum256(content[blob])); got != blob {
			t.Errorf("Docker's %s is %s", blob, got)
		}
	}
}

func TestReference(t *testing.T) {
	for ref, want := range map[string]string{
		"app:1":                             "docker.io/library/app:1",
		"team/app:1":                        "docker.io/team/app:1",
		"ghcr.io/vmcp-dev/vmcp-runtime:dev": "ghcr.io/vmcp-dev/vmcp-runtime:dev",
		"localhost:5000/app:1":              "localhost:5000/app:1",
		"app":                               "",
		"app:":                              "",
		"App:1":                             "",
	} {
		got, _, err := image.Reference(ref)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("Reference(%q) = %q, %v; want %q", ref, got, err, want)
		}
	}
}

func TestOpenArchiveRefusesWhatIsNoImage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.tar")
	if err := os.WriteFile(file, bytes.Repeat([]byte("no tar "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := image.OpenArchive(file, t.TempDir()); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got error %v, want one that names the file", err)
	}
}

func TestArchiveReference(t *testing.T) {
	_, file := build(t, "app:1.2")
	if got, err := image.ArchiveReference(file); err != nil || got != "docker.io/library/app:1.2" {
		t.Errorf("got %q, %v", got, err)
	}
	for name, content := range map[string]string{"no tar": strings.Repeat("no tar ", 1000), "nothing": ""} {
		file := filepath.Join(t.TempDir(), "x.tar")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := image.ArchiveReference(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: got error %v, want one that names the file", name, err)
		}
	}
}

func TestPushTrustsTheAuthorityGiven(t *testing.T) {
	server := httptest.NewTLSServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // the refused handshake
	_, file := build(t, "example.com/app:1")
	to := strings.TrimPrefix(server.URL, "https://") + "/app:1"
	authority := filepath.Join(t.TempDir(), "ca.crt")
	content := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(authority, content, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := image.Push(ctx, file, to, image.PushOptions{Authority: authority}); err != nil {
		t.Error(err)
	}
	for name, opts := range map[string]image.PushOptions{
		"none":          {},
		"no file":       {Authority: authority + "x"},
		"not one in it": {Authority: file},
	} {
		if _, err := image.Push(ctx, file, to, opts); err == nil {
			t.Errorf("authority %s: no error", name)
		}
	}
}

func TestPushOverPlainHTTPToLoopback(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	img, file := build(t, "example.com/app:1")
	to := strings.TrimPrefix(server.URL, "http://") + "/team/app:2"
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got, err := image.Push(ctx, file, to, image.PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimSuffix(to, ":2") + "@" + digest.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	ref, err := name.ParseReference(to)
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Image(ref, remote.WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	if g, w := list(t, pulled), list(t, img); !reflect.DeepEqual(g, w) {
		t.Errorf("files:\n got %q\nwant %q", g, w)
	}
}
