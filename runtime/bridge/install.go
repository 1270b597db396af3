// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Install copies the running program to path, executable for everybody. An init container does this to bring the bridge
// into a pod whose image does not have it; such images have no shell and no cp either. A file at path is replaced at once
// or not at all.
func Install(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("installing the bridge: %s is a folder; name the file to write", path)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("installing the bridge: finding this program: %w", err)
	}
	if err := copyExecutable(self, path); err != nil {
		return fmt.Errorf("installing the bridge: %w", err)
	}
	return nil
}

func copyExecutable(from, to string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	// In the same folder, so that the rename stays within one file system.
	target, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			target.Close() // may be closed already
			os.Remove(target.Name())
		}
	}()
	if _, err = io.Copy(target, source); err != nil {
		return err
	}
	if err = target.Chmod(0o755); err != nil {
		return err
	}
	if err = target.Close(); err != nil {
		return err
	}
	return os.Rename(target.Name(), to)
}
