// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The API server accepts every sample and knows every field in it.
func TestSamplesAreAccepted(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "config", "samples", "vmcp_*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			g := NewWithT(t)
			data, err := os.ReadFile(file)
			g.Expect(err).NotTo(HaveOccurred())
			decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
			objects := 0
			for ; ; objects++ {
				o := &unstructured.Unstructured{}
				if err := decoder.Decode(o); errors.Is(err, io.EOF) {
					break
				} else {
					g.Expect(err).NotTo(HaveOccurred())
				}
				o.SetNamespace("default")
				g.Expect(api.Create(t.Context(), o, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict))).
					To(Succeed(), o.GetName())
			}
			g.Expect(objects).To(BeNumerically(">", 0))
		})
	}
}
