// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/operator-framework/api/pkg/apis/scorecard/v1alpha3"
	"github.com/operator-framework/api/pkg/operators/v1alpha1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// bundleDir is where scorecard puts the bundle into a test's pod.
const bundleDir = "/bundle"

// program is these tests in their image.
const program = "/scorecard-tests"

// testBundle checks what the ClusterServiceVersion asks for: no more rights than named ones, and images that stay what they are.
func testBundle(_ context.Context, r *result) error {
	files, err := filepath.Glob(filepath.Join(bundleDir, "manifests", "*clusterserviceversion.yaml"))
	if err != nil || len(files) != 1 {
		return errors.Join(fmt.Errorf("want one ClusterServiceVersion in %s, there are %d", bundleDir, len(files)), err)
	}
	csv := &v1alpha1.ClusterServiceVersion{}
	if err := readYAML(files[0], csv); err != nil {
		return err
	}
	checkCSV(r, csv)
	return nil
}

// checkCSV says what of a ClusterServiceVersion is not as ours has to be.
func checkCSV(r *result, csv *v1alpha1.ClusterServiceVersion) {
	strategy := csv.Spec.InstallStrategy.StrategySpec
	if n := len(strategy.ClusterPermissions); n > 0 {
		r.fail("Move clusterPermissions to permissions: OLM turns them into those of the whole cluster where the operator is for all namespaces.",
			"%d clusterPermissions", n)
	}
	for _, p := range append(slices.Clone(strategy.Permissions), strategy.ClusterPermissions...) {
		for _, rule := range p.Rules {
			checkRule(r, p.ServiceAccountName, rule)
		}
	}
	for _, mode := range []v1alpha1.InstallModeType{
		v1alpha1.InstallModeTypeOwnNamespace, v1alpha1.InstallModeTypeSingleNamespace,
		v1alpha1.InstallModeTypeMultiNamespace, v1alpha1.InstallModeTypeAllNamespaces,
	} {
		if !slices.Contains(csv.Spec.InstallModes, v1alpha1.InstallMode{Type: mode, Supported: true}) {
			r.fail("Declare all four install modes; WATCH_NAMESPACE has them work.", "install mode %s is not supported", mode)
		}
	}
	related := map[string]bool{}
	for _, image := range csv.Spec.RelatedImages {
		related[image.Image] = true
		checkImage(r, "related image "+image.Name, image.Image)
	}
	for _, d := range strategy.DeploymentSpecs {
		for _, c := range slices.Concat(d.Spec.Template.Spec.InitContainers, d.Spec.Template.Spec.Containers) {
			images := map[string]string{"container " + c.Name: c.Image}
			for _, e := range c.Env {
				if strings.HasPrefix(e.Name, "RELATED_IMAGE_") {
					images["variable "+e.Name] = e.Value
				}
			}
			for where, image := range images {
				checkImage(r, where, image)
				if !related[image] {
					r.fail("List every image in relatedImages, or mirrors will lack it.", "%s is not a related image: %s", where, image)
				}
			}
		}
	}
	shown := checkAnnotations(r, csv.Annotations)
	r.logf("%s: %d permissions, %d related images, %d images in examples", csv.Name, len(strategy.Permissions), len(csv.Spec.RelatedImages), shown)
}

// Annotations of a ClusterServiceVersion that name images.
const (
	containerImageAnnotation = "containerImage"
	examplesAnnotation       = "alm-examples"
)

// checkAnnotations says which images can change that annotations name: the operator's own, which catalogs show, and those of the examples,
// which people copy. The result is the number of the latter.
func checkAnnotations(r *result, annotations map[string]string) int {
	checkImage(r, "annotation "+containerImageAnnotation, annotations[containerImageAnnotation])
	var examples []any
	if err := json.Unmarshal([]byte(annotations[examplesAnnotation]), &examples); err != nil {
		r.fail("Give an example of each kind, as a list in JSON.", "the annotation %s cannot be read: %v", examplesAnnotation, err)
		return 0
	}
	images := imagesIn(examples)
	for _, image := range images {
		checkImage(r, "an example", image)
	}
	return len(images)
}

// imagesIn are the values of all fields image of a value that was JSON, in their order.
func imagesIn(value any) []string {
	var images []string
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			images = append(images, imagesIn(item)...)
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if image, ok := v[key].(string); ok && key == "image" {
				images = append(images, image)
				continue
			}
			images = append(images, imagesIn(v[key])...)
		}
	}
	return images
}

func checkRule(r *result, account string, rule rbacv1.PolicyRule) {
	for what, list := range map[string][]string{"apiGroups": rule.APIGroups, "resources": rule.Resources, "verbs": rule.Verbs} {
		if slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, "*") }) {
			r.fail("Name API groups, resources and verbs one by one.", "the permissions of %s have a wildcard in %s: %v", account, what, rule)
		}
	}
	for _, verb := range []string{"escalate", "bind", "impersonate"} {
		if slices.Contains(rule.Verbs, verb) {
			r.fail("Give runtimes what the operator itself holds; then it needs neither escalate nor bind.", "the permissions of %s have the verb %s", account, verb)
		}
	}
}

// fullVersion is a tag that is given once. Anything shorter, v1 for example, moves to the next release.
var fullVersion = regexp.MustCompile(`^v?\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)

// checkImage wants a digest, or a tag that names a version.
func checkImage(r *result, where, image string) {
	if strings.Contains(image, "@sha256:") {
		return
	}
	_, tag, _ := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":")
	if !fullVersion.MatchString(tag) {
		r.fail("Name images by digest, or by the tag of a full version.", "the image of %s can change: %s", where, image)
	}
}

// ownImage is the image of these tests, which their configuration in the bundle names.
func ownImage() (string, error) {
	config := &v1alpha3.Configuration{}
	if err := readYAML(filepath.Join(bundleDir, "tests", "scorecard", "config.yaml"), config); err != nil {
		return "", err
	}
	for _, stage := range config.Stages {
		for _, test := range stage.Tests {
			if len(test.Entrypoint) > 0 && test.Entrypoint[0] == program {
				return test.Image, nil
			}
		}
	}
	return "", errors.New("the configuration of scorecard in the bundle does not name these tests")
}

func readYAML(file string, into any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading the bundle: %w", err)
	}
	if err := yaml.Unmarshal(data, into); err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	return nil
}
