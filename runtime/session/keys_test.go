// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

// mounted is a folder as the kubelet makes it of a Secret: its files are links by way of one that is swapped.
type mounted struct {
	t        *testing.T
	dir      string
	versions int
}

func newMounted(t *testing.T) *mounted {
	t.Helper()
	m := &mounted{t: t, dir: t.TempDir()}
	for _, name := range []string{"previous", "current", "next"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(m.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// swap brings other files, and removes those from before.
func (m *mounted) swap(files map[string][]byte) error {
	link := filepath.Join(m.dir, "..data")
	before, _ := os.Readlink(link)
	m.versions++
	version := "..version" + strconv.Itoa(m.versions)
	err := os.Mkdir(filepath.Join(m.dir, version), 0o700)
	for name, content := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(m.dir, version, name), content, 0o600))
	}
	err = errors.Join(err, os.Symlink(version, link+"_tmp"), os.Rename(link+"_tmp", link))
	if before != "" {
		err = errors.Join(err, os.RemoveAll(filepath.Join(m.dir, before)))
	}
	return err
}

func TestReadKeys(t *testing.T) {
	m := newMounted(t)
	if _, err := session.ReadKeys(m.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder without files: %v", err)
	}
	for _, want := range []session.Keys{
		{Current: key(1), Next: key(2)},
		{Previous: key(1), Current: key(2), Next: key(3)},
		{Current: key(2)},
	} {
		files := map[string][]byte{"current": want.Current}
		if want.Previous != nil {
			files["previous"] = want.Previous
		}
		if want.Next != nil {
			files["next"] = want.Next
		}
		if err := m.swap(files); err != nil {
			t.Fatal(err)
		}
		if got, err := session.ReadKeys(m.dir); err != nil || !got.Equal(want) {
			t.Errorf("not the keys of the folder: %v", err)
		}
	}
	if err := m.swap(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := session.ReadKeys(m.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("keys that went: %v", err)
	}
}

// TestReadKeysOfOneVersion reads while the kubelet swaps versions: each key says which one it is of.
func TestReadKeysOfOneVersion(t *testing.T) {
	m := newMounted(t)
	version := func(b byte) map[string][]byte {
		return map[string][]byte{"previous": key(b), "current": key(b), "next": key(b)}
	}
	if err := m.swap(version(0)); err != nil {
		t.Fatal(err)
	}
	swapped := make(chan error, 1)
	go func() {
		var err error
		for b := byte(1); b < 200 && err == nil; b++ {
			err = m.swap(version(b))
		}
		swapped <- err
	}()
	reads := 0
	for {
		k, err := session.ReadKeys(m.dir)
		switch {
		case err == nil && bytes.Equal(k.Previous, k.Current) && bytes.Equal(k.Next, k.Current):
			reads++
		case err == nil:
			t.Error("keys of more than one version")
		case !strings.Contains(err.Error(), "keep changing"):
			t.Error(err)
		}
		select {
		case err := <-swapped:
			if err != nil {
				t.Fatal(err)
			}
			if reads == 0 {
				t.Fatal("nothing was read")
			}
			return
		default:
		}
	}
}

// TestLateKeysEndNoSession: a replica may begin sessions before it is given keys.
func TestLateKeysEndNoSession(t *testing.T) {
	s := session.NewSealer("uid")
	before := s.MintID("", "2025-11-25", 0, now)
	keys := session.Keys{Current: key(1), Next: key(2)}
	if err := s.SetKeys(keys); err != nil {
		t.Fatal(err)
	}
	if _, err := s.OpenID("", before, now); err != nil {
		t.Errorf("a session from before the keys: %v", err)
	}
	if _, err := sealer(t, "uid", keys).OpenID("", s.MintID("", "2025-11-25", 0, now), now); err != nil {
		t.Errorf("a session that began with the keys, at another replica: %v", err)
	}
	if err := s.SetKeys(session.Keys{Current: key(3)}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.OpenID("", before, now); err != nil {
		t.Errorf("after other keys: %v", err)
	}
}
