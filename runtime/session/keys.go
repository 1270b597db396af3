// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The files of a folder with keys, as of a Secret that is mounted: KeySize bytes each.
const (
	fileCurrent  = "current"
	filePrevious = "previous"
	fileNext     = "next"
)

// ReadKeys reads the keys of a folder. The error is fs.ErrNotExist where there is no current one.
func ReadKeys(dir string) (Keys, error) {
	var k Keys
	for _, file := range []struct {
		name string
		key  *[]byte
	}{{fileCurrent, &k.Current}, {filePrevious, &k.Previous}, {fileNext, &k.Next}} {
		content, err := os.ReadFile(filepath.Join(dir, file.name))
		switch {
		case err == nil:
			*file.key = content
		case file.name != fileCurrent && errors.Is(err, fs.ErrNotExist):
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
