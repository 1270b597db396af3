//go:build bundle

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/operator-framework/api/pkg/operators/v1alpha1"
	"sigs.k8s.io/yaml"
)

// root is the folder of the repository.
var root = filepath.Join("..", "..", "..")

// The images of the bundle, as a registry knows them.
const operatorImage, runtimeImage = "vmcp-dev/vmcp-operator:v0.2.0", "vmcp-dev/vmcp-runtime:v0.2.0"

// registry answers for the manifests of images by these names and tags, as NAME:TAG, and for nothing else.
func registry(t *testing.T, images ...string) (address string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/{$}", func(http.ResponseWriter, *http.Request) {})
	for _, image := range images {
		name, tag, _ := strings.Cut(image, ":")
		mux.HandleFunc("GET /v2/"+name+"/manifests/"+tag, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			w.Header().Set("Docker-Content-Digest", digest(image))
			_, _ = w.Write([]byte(manifest(image)))
		})
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// manifest is that of an index without images. Its annotation makes it another for each image.
func manifest(image string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"image":%q}}`, image)
}

func digest(image string) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(manifest(image))))
}

// generate makes a bundle of version 0.2.0 with images by digest, as make does for a release, and returns what it says.
func generate(t *testing.T, address, previous string) (dir, output string, err error) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "bundle")
	command := exec.CommandContext(t.Context(), "make", "-C", root, "bundle", "BUNDLE_DIR="+dir, "USE_IMAGE_DIGESTS=yes",
		"VERSION=0.2.0", "PREVIOUS_VERSION="+previous, "IMAGE_REGISTRY="+address+"/vmcp-dev")
	// Neither the flags of a make that runs this test nor anybody's credentials count.
	command.Env = append(os.Environ(), "MAKEFLAGS=", "MFLAGS=", "DOCKER_CONFIG="+t.TempDir())
	out, err := command.CombinedOutput()
	return dir, string(out), err
}

// The bundle of a release names every image by the digest that its registry has for it, and the version that it replaces.
func TestBundleOfARelease(t *testing.T) {
	for name, c := range map[string]struct{ previous, replaces string }{
		"the first": {},
		"another":   {previous: "0.1.0", replaces: "vmcp-operator.v0.1.0"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			address := registry(t, operatorImage, runtimeImage)
			dir, output, err := generate(t, address, c.previous)
			g.Expect(err).NotTo(HaveOccurred(), output)
			data, err := os.ReadFile(filepath.Join(dir, "manifests", "vmcp-operator.clusterserviceversion.yaml"))
			g.Expect(err).NotTo(HaveOccurred())
			csv := &v1alpha1.ClusterServiceVersion{}
			g.Expect(yaml.Unmarshal(data, csv)).To(Succeed())

			pinned := func(image string) string {
				repository, _, _ := strings.Cut(image, ":")
				return address + "/" + repository + "@" + digest(image)
			}
			operator, runtime := pinned(operatorImage), pinned(runtimeImage)
			g.Expect(csv.Annotations).To(HaveKeyWithValue("containerImage", operator))
			strategy := csv.Spec.InstallStrategy.StrategySpec
			g.Expect(strategy.DeploymentSpecs).To(HaveLen(1))
			containers := strategy.DeploymentSpecs[0].Spec.Template.Spec.Containers
			g.Expect(containers).To(HaveLen(1))
			g.Expect(containers[0].Image).To(Equal(operator))
			g.Expect(containers[0].Env).To(ContainElement(And(HaveField("Name", "RELATED_IMAGE_RUNTIME"), HaveField("Value", runtime))))
			// operator-sdk lists that of the annotation once more, under a name of its own.
			related := map[string]bool{}
			for _, image := range csv.Spec.RelatedImages {
				related[image.Image] = true
			}
			g.Expect(related).To(Equal(map[string]bool{operator: true, runtime: true}))
			g.Expect(string(data)).NotTo(MatchRegexp(regexp.QuoteMeta(address)+`[\w/-]*:`), "an image by its tag")

			g.Expect(csv.Name).To(Equal("vmcp-operator.v0.2.0"))
			g.Expect(csv.Spec.Replaces).To(Equal(c.replaces))
			g.Expect(csv.Annotations).To(HaveKeyWithValue("olm.skipRange", "<0.2.0"))
			g.Expect(csv.Annotations).To(HaveKeyWithValue("features.operators.openshift.io/disconnected", "true"))
		})
	}
}

// There is no bundle before its images are where it says.
func TestBundleOfImagesThatWereNotPushed(t *testing.T) {
	g := NewWithT(t)
	_, output, err := generate(t, registry(t, operatorImage), "")
	g.Expect(err).To(HaveOccurred())
	g.Expect(output).To(ContainSubstring("vmcp-runtime"))
}
