// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// FromFile takes the credential out of the Secret that s names, which is mounted below dir; see configv1alpha1.CredentialFile. The
// error is an *UnusableError.
func (s Strategy) FromFile(dir string) (Credential, error) {
	value, err := readBelow(dir, configv1alpha1.CredentialFile("", s.Header.SecretRef))
	switch {
	case err == nil:
		return s.Parse(value)
	case !errors.Is(err, fs.ErrNotExist):
		return Credential{}, s.Unreadable(err.Error())
	case hasKeys(filepath.Join(dir, s.Header.SecretRef.Name)):
		return Credential{}, s.problem(v1alpha1.ReasonSecretKeyNotFound, "has no key %q", s.Header.SecretRef.Key)
	default:
		return Credential{}, s.problem(v1alpha1.ReasonSecretNotFound,
			"does not exist, or is empty; create it with the key %q and the label %s: \"true\"", s.Header.SecretRef.Key, v1alpha1.CredentialLabel)
	}
}

// readBelow reads a file that is in dir even after all links were followed: names in a configuration must not lead out of it.
func readBelow(dir, name string) ([]byte, error) {
	file, err := os.OpenInRoot(dir, name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	value, err := io.ReadAll(io.LimitReader(file, 2*maxHeaderValue)) // white space around the value included
	if err != nil {
		return nil, fmt.Errorf("reading a mounted Secret: %w", err)
	}
	return value, nil
}

// hasKeys says that a mounted Secret has keys. What begins with two dots is the kubelet's.
func hasKeys(folder string) bool {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return false
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), "..") {
			return true
		}
	}
	return false
}
