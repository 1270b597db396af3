// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
)

const (
	// versionLink is the link by which the kubelet swaps all files of a mounted Secret at once.
	versionLink = "..data"
	// maxReads bounds how often a folder is read that is swapped meanwhile.
	maxReads = 3
)

// ReadKeys reads the keys of a folder: KeySize bytes each, in files that are called as in configv1alpha1. Of a Secret that is mounted
// they are of one version: those of two could lack the key that other replicas seal with. The error is fs.ErrNotExist where there is
// no current one.
func ReadKeys(dir string) (Keys, error) {
	for range maxReads {
		before, _ := os.Readlink(filepath.Join(dir, versionLink)) // a plain folder has none
		k, err := readKeys(dir)
		if after, _ := os.Readlink(filepath.Join(dir, versionLink)); after == before {
			return k, err
		}
	}
	return Keys{}, errors.New("reading the session keys: they keep changing")
}

func readKeys(dir string) (Keys, error) {
	var k Keys
	for _, file := range []struct {
		name string
		key  *[]byte
	}{
		{configv1alpha1.SessionKeyCurrent, &k.Current},
		{configv1alpha1.SessionKeyPrevious, &k.Previous},
		{configv1alpha1.SessionKeyNext, &k.Next},
	} {
		content, err := os.ReadFile(filepath.Join(dir, file.name))
		switch {
		case err == nil:
			*file.key = content
		case file.name != configv1alpha1.SessionKeyCurrent && errors.Is(err, fs.ErrNotExist):
		default:
			return Keys{}, fmt.Errorf("reading the %s session key: %w", file.name, err)
		}
	}
	return k, nil
}

// Equal says whether k and o are the same keys.
func (k Keys) Equal(o Keys) bool {
	return bytes.Equal(k.Previous, o.Previous) && bytes.Equal(k.Current, o.Current) && bytes.Equal(k.Next, o.Next)
}

// Derive makes keys of the same length for another use (HKDF, RFC 5869): from them neither k nor the keys for a third use can be found.
func (k Keys) Derive(use string) (Keys, error) {
	var derived Keys
	for _, key := range []struct {
		from []byte
		to   *[]byte
	}{{k.Current, &derived.Current}, {k.Previous, &derived.Previous}, {k.Next, &derived.Next}} {
		if len(key.from) == 0 {
			continue
		}
		var err error
		if *key.to, err = hkdf.Key(sha256.New, key.from, nil, use, KeySize); err != nil {
			return Keys{}, fmt.Errorf("deriving a key: %w", err)
		}
	}
	return derived, nil
}
