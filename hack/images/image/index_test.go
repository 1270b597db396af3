// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"bytes"
	"context"
	"io"
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

// buildFor makes the archive of an image for one platform, with a program of its own and a file that all platforms share.
func buildFor(t *testing.T, architecture string) (img v1.Image, file string) {
	t.Helper()
	s := spec(
		image.Layer{Sources: []string{"LICENSE"}, Dest: "/LICENSE"},
		image.Layer{Sources: []string{"app"}, Dest: "/app"},
	)
	s.Platform = v1.Platform{OS: "linux", Architecture: architecture}
	img, err := image.Build(newContext(t, map[string]string{"LICENSE": "free", "app": "for " + architecture}), s)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), architecture+".tar")
	if err := image.WriteArchive(file, "example.com/app:1", img); err != nil {
		t.Fatal(err)
	}
	return img, file
}

// An index is pushed with its images, and whoever pulls it gets the one for their platform.
func TestIndexOfPlatforms(t *testing.T) {
	amd64, first := buildFor(t, "amd64")
	arm64, second := buildFor(t, "arm64")
	out := filepath.Join(t.TempDir(), "app.tar")
	written, err := image.WriteIndexArchive(out, "example.com/app:1", []string{first, second})
	if err != nil {
		t.Fatal(err)
	}
	if ref, err := image.ArchiveReference(out); err != nil || ref != "example.com/app:1" {
		t.Errorf("the archive is of %q, %v", ref, err)
	}

	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	to := strings.TrimPrefix(server.URL, "http://") + "/app:1"
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	pushed, err := image.Push(ctx, out, to, image.PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimSuffix(to, ":1") + "@" + written.Digest; pushed != want {
		t.Errorf("pushed %s, want %s", pushed, want)
	}
	ref, err := name.ParseReference(to)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []v1.Image{amd64, arm64} {
		config, err := want.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		pulled, err := remote.Image(ref, remote.WithContext(ctx), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: config.Architecture}))
		if err != nil {
			t.Fatal(err)
		}
		if g, w := list(t, pulled), list(t, want); !reflect.DeepEqual(g, w) {
			t.Errorf("%s: files:\n got %q\nwant %q", config.Architecture, g, w)
		}
		digest, err := want.Digest()
		if err != nil {
			t.Fatal(err)
		}
		platform := written.Platforms[i]
		if platform.Name != "linux/"+config.Architecture || platform.Digest != digest.String() || platform.Size < 1000 {
			t.Errorf("described as %+v, want linux/%s %s", platform, config.Architecture, digest)
		}
	}
}

func TestSameArchivesSameIndex(t *testing.T) {
	_, first := buildFor(t, "amd64")
	_, second := buildFor(t, "arm64")
	var contents [2][]byte
	for i := range contents {
		out := filepath.Join(t.TempDir(), "app.tar")
		if _, err := image.WriteIndexArchive(out, "example.com/app:1", []string{first, second}); err != nil {
			t.Fatal(err)
		}
		var err error
		if contents[i], err = os.ReadFile(out); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(contents[0], contents[1]) {
		t.Error("the same archives gave different bytes")
	}
}

func TestIndexErrors(t *testing.T) {
	_, first := buildFor(t, "amd64")
	_, again := buildFor(t, "amd64")
	_, second := buildFor(t, "arm64")
	indexed := filepath.Join(t.TempDir(), "index.tar")
	if _, err := image.WriteIndexArchive(indexed, "example.com/app:1", []string{first, second}); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		ref      string
		archives []string
		want     string
	}{
		"two for one platform": {"example.com/app:1", []string{first, again}, "are both for linux/amd64"},
		"an index of an index": {"example.com/app:1", []string{indexed}, "index of images, want one image"},
		"no archive":           {"example.com/app:1", []string{first + "x"}, "read archive"},
		"no tag":               {"example.com/app", []string{first}, "has no tag"},
	} {
		t.Run(what, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "app.tar")
			_, err := image.WriteIndexArchive(out, c.ref, c.archives)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("a file is left")
			}
		})
	}
}
