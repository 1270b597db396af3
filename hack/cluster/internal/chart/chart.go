// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package chart renders the templates of a Helm chart. It knows the part of
// Helm's template language that OLM's chart uses, and fails on any other: the
// whole of Helm would be the largest program of a cluster to build.
package chart

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"strings"
	"text/template"

	"sigs.k8s.io/yaml"
)

// Render returns the objects of the chart as YAML documents, in the order of
// its files. The chart's values.yaml is overridden by values, key by key.
func Render(chart fs.FS, release, version string, values []byte) ([]byte, error) {
	defaults, err := fs.ReadFile(chart, "values.yaml")
	if err != nil {
		return nil, fmt.Errorf("read chart: %w", err)
	}
	merged, err := merge(defaults, values)
	if err != nil {
		return nil, err
	}
	set, names, err := parse(chart)
	if err != nil {
		return nil, err
	}
	data := map[string]any{
		"Values":  merged,
		"Chart":   map[string]any{"Name": release, "Version": version},
		"Release": map[string]any{"Name": release},
	}
	var documents []string
	for _, name := range names {
		var out strings.Builder
		if err := set.ExecuteTemplate(&out, name, data); err != nil {
			return nil, fmt.Errorf("render chart: %w", err)
		}
		if text := strings.TrimSpace(out.String()); text != "" {
			documents = append(documents, strings.TrimPrefix(text, "---\n")+"\n")
		}
	}
	return []byte(strings.Join(documents, "---\n")), nil
}

// CRDs returns the chart's custom resource definitions, which Helm applies as they are.
func CRDs(chart fs.FS) ([]byte, error) {
	files, err := fs.Glob(chart, "crds/*.yaml")
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("read chart: it has no crds/*.yaml")
	}
	var out bytes.Buffer
	for _, file := range files {
		content, err := fs.ReadFile(chart, file)
		if err != nil {
			return nil, fmt.Errorf("read chart: %w", err)
		}
		fmt.Fprintf(&out, "---\n%s\n", bytes.TrimPrefix(bytes.TrimSpace(content), []byte("---\n")))
	}
	return out.Bytes(), nil
}

// parse reads the templates; names are those that make objects, sorted.
func parse(chart fs.FS) (*template.Template, []string, error) {
	set := template.New("")
	set.Funcs(functions(set))
	files, err := fs.Glob(chart, "templates/*")
	if err != nil {
		return nil, nil, err
	}
	var names []string
	for _, file := range files {
		content, err := fs.ReadFile(chart, file)
		if err != nil {
			return nil, nil, fmt.Errorf("read chart: %w", err)
		}
		if _, err := set.New(file).Parse(string(content)); err != nil {
			return nil, nil, fmt.Errorf("read chart: %w", err)
		}
		// Files that start with an underscore only define templates.
		if !strings.HasPrefix(path.Base(file), "_") {
			names = append(names, file)
		}
	}
	return set, names, nil
}

// functions are those of Helm and of its library sprig, with their order of arguments: the piped one is the last.
func functions(set *template.Template) template.FuncMap {
	indent := func(spaces int, text string) string {
		pad := strings.Repeat(" ", spaces)
		return pad + strings.ReplaceAll(text, "\n", "\n"+pad)
	}
	return template.FuncMap{
		"default": func(otherwise, value any) any {
			if truth, _ := template.IsTrue(value); truth {
				return value
			}
			return otherwise
		},
		"include": func(name string, data any) (string, error) {
			var out strings.Builder
			err := set.ExecuteTemplate(&out, name, data)
			return out.String(), err
		},
		"indent":  indent,
		"nindent": func(spaces int, text string) string { return "\n" + indent(spaces, text) },
		"quote":   func(value any) string { return fmt.Sprintf("%q", fmt.Sprint(value)) },
		"toYaml": func(value any) (string, error) {
			out, err := yaml.Marshal(value)
			return strings.TrimSuffix(string(out), "\n"), err
		},
		"trimSuffix": func(suffix, text string) string { return strings.TrimSuffix(text, suffix) },
		"trunc":      func(length int, text string) string { return text[:min(length, len(text))] },
	}
}

func merge(defaults, overrides []byte) (map[string]any, error) {
	var under, over map[string]any
	if err := yaml.Unmarshal(defaults, &under); err != nil {
		return nil, fmt.Errorf("read the chart's values: %w", err)
	}
	if err := yaml.UnmarshalStrict(overrides, &over); err != nil {
		return nil, fmt.Errorf("read values: %w", err)
	}
	return deepMerge(under, over), nil
}

// deepMerge puts over on top of under: maps key by key, everything else as a whole.
func deepMerge(under, over map[string]any) map[string]any {
	result := maps.Clone(under)
	if result == nil {
		result = map[string]any{}
	}
	for key, value := range over {
		below, isMap := result[key].(map[string]any)
		above, both := value.(map[string]any)
		if isMap && both {
			value = deepMerge(below, above)
		}
		result[key] = value
	}
	return result
}
