//go:build e2e_olm

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package olm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	packageName = "vmcp-operator"
	channel     = "stable"
	csvFile     = "bundle/manifests/vmcp-operator.clusterserviceversion.yaml"
)

// bundleImage is the bundle of a version in the cluster's registry.
func bundleImage(version string) string { return setting.Registry + "/e2e-olm/bundle:v" + version }

// catalogImage is a catalog of all versions up to one.
func catalogImage(version string) string { return setting.Registry + "/e2e-olm/catalog:v" + version }

func csvName(version string) string { return packageName + ".v" + version }

func operatorImage(version string) string {
	return setting.ImageRegistry + "/vmcp-operator:v" + version
}

func runtimeImage(version string) string { return setting.ImageRegistry + "/vmcp-runtime:v" + version }

// images finds what a bundle installs, whatever its tag or digest.
var images = regexp.MustCompile(`[\w.:/-]+/vmcp-(operator|runtime)[:@][\w.:-]+`)

// publish pushes a bundle of each version, and a catalog for each that ends with it.
func publish(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "vmcp-e2e-olm-")
	if err != nil {
		return fmt.Errorf("making bundles: %w", err)
	}
	defer os.RemoveAll(dir)
	catalog := filepath.Join(dir, "configs", packageName)
	if err := os.MkdirAll(catalog, 0o755); err != nil {
		return fmt.Errorf("making bundles: %w", err)
	}
	entries, bundles := "", ""
	for i, version := range setting.Versions {
		bundle := filepath.Join(dir, version)
		replaces := ""
		entries += "- name: " + csvName(version) + "\n"
		if i > 0 {
			replaces = setting.Versions[i-1]
			entries += "  replaces: " + csvName(replaces) + "\n"
		}
		if err := writeBundle(bundle, version, replaces); err != nil {
			return err
		}
		if err := push(ctx, filepath.Join(setting.Repository, "bundle.Dockerfile"), bundle, bundleImage(version)); err != nil {
			return err
		}
		rendered, err := tool(ctx, "opm", "render", filepath.Join(bundle, "bundle"), "--output=yaml", "--alpha-image-ref-template="+bundleImage(version))
		if err != nil {
			return err
		}
		bundles += "---\n" + strings.TrimPrefix(rendered, "---\n")
		content := fmt.Sprintf("schema: olm.package\nname: %[1]s\ndefaultChannel: %[2]s\n---\nschema: olm.channel\npackage: %[1]s\nname: %[2]s\nentries:\n%[3]s%[4]s",
			packageName, channel, entries, bundles)
		if err := os.WriteFile(filepath.Join(catalog, "catalog.yaml"), []byte(content), 0o644); err != nil {
			return fmt.Errorf("making catalogs: %w", err)
		}
		if _, err := tool(ctx, "opm", "validate", filepath.Join(dir, "configs")); err != nil {
			return err
		}
		dockerfile := filepath.Join(dir, "catalog.Dockerfile")
		if err := os.WriteFile(dockerfile, []byte("FROM scratch\nCOPY configs /configs\n"), 0o644); err != nil {
			return fmt.Errorf("making catalogs: %w", err)
		}
		if err := push(ctx, dockerfile, dir, catalogImage(version)); err != nil {
			return err
		}
	}
	return nil
}

// writeBundle copies the bundle that is checked in, as another version with images of its own. It may be skipped by none, so that an
// upgrade takes every step.
func writeBundle(dir, version, replaces string) error {
	if err := os.CopyFS(filepath.Join(dir, "bundle"), os.DirFS(filepath.Join(setting.Repository, "bundle"))); err != nil {
		return fmt.Errorf("copying the bundle: %w", err)
	}
	file := filepath.Join(dir, csvFile)
	content, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading the bundle: %w", err)
	}
	csv, err := asVersion(content, version, replaces)
	if err != nil {
		return fmt.Errorf("bundle of version %s: %w", version, err)
	}
	return os.WriteFile(file, csv, 0o644)
}

func asVersion(content []byte, version, replaces string) ([]byte, error) {
	csv := map[string]any{}
	if err := yaml.Unmarshal(content, &csv); err != nil {
		return nil, err
	}
	metadata, isMap := csv["metadata"].(map[string]any)
	spec, both := csv["spec"].(map[string]any)
	annotations, all := metadata["annotations"].(map[string]any)
	if !isMap || !both || !all {
		return nil, fmt.Errorf("%s has no metadata, annotations or spec", csvFile)
	}
	metadata["name"] = csvName(version)
	spec["version"] = version
	delete(annotations, "olm.skipRange")
	delete(spec, "replaces")
	if replaces != "" {
		spec["replaces"] = csvName(replaces)
	}
	changed, err := yaml.Marshal(csv)
	if err != nil {
		return nil, err
	}
	return images.ReplaceAllFunc(changed, func(image []byte) []byte {
		if strings.Contains(string(image), "/vmcp-operator") {
			return []byte(operatorImage(version))
		}
		return []byte(runtimeImage(version))
	}), nil
}

// push builds an image and uploads it.
func push(ctx context.Context, dockerfile, directory, image string) error {
	archive := filepath.Join(directory, "image.tar")
	defer os.Remove(archive)
	if _, err := tool(ctx, filepath.Join(setting.Tools, "imagetool"), "build", "-f", dockerfile, "-context", directory, "-t", image, "-o", archive); err != nil {
		return err
	}
	_, err := tool(ctx, filepath.Join(setting.Tools, "cluster"), "push-image", archive)
	return err
}

// tool runs a program that reaches the cluster and its registry, and returns what it printed to stdout.
func tool(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	home, err := toolHome()
	if err != nil {
		return "", err
	}
	cmd.Env = append(os.Environ(), "HOME="+home, "SSL_CERT_FILE="+setting.Authority)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// toolHome is a home directory with the file without which opm, and operator-sdk with it, pull nothing: containers-policy.json(5).
func toolHome() (string, error) {
	home := filepath.Join(os.TempDir(), "vmcp-e2e-olm-home")
	dir := filepath.Join(home, ".config", "containers")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making a home for tools: %w", err)
	}
	policy := `{"default": [{"type": "insecureAcceptAnything"}]}`
	if err := os.WriteFile(filepath.Join(dir, "policy.json"), []byte(policy), 0o644); err != nil {
		return "", fmt.Errorf("making a home for tools: %w", err)
	}
	return home, nil
}
