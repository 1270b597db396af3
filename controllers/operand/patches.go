// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package operand

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/kustomize/api/filters/patchjson6902"
	"sigs.k8s.io/kustomize/api/provider"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/yaml"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// applyPatches applies a user's patches to what was rendered, one after another, and checks every invariant after each, so that
// the patch that is wrong can be named.
//
// Text of a user never becomes part of a kustomization: Kustomize would fetch what a path or a resource of it names, even with a
// file system in memory. A patch is parsed here, and Kustomize's transformers get the parsed form, which names no file.
func applyPatches(rendered *Operand, resources resmap.ResMap, patches []v1alpha1.Patch) (*Operand, error) {
	byKind := map[string]*resource.Resource{}
	for _, r := range resources.Resources() {
		byKind[fieldOf(r)] = r
	}
	was, err := newObjects(rendered)
	if err != nil {
		return nil, err
	}
	patched, is := *rendered, *was
	for i, p := range patches {
		if err := applyPatch(&patched, &is, byKind[string(p.Target.Kind)], p); err != nil {
			return nil, fmt.Errorf("spec.patches[%d]: %w", i, err)
		}
		for _, check := range invariants {
			if sentence := check(was, &is); sentence != "" {
				return nil, fmt.Errorf("spec.patches[%d]: %s", i, sentence)
			}
		}
	}
	return &patched, nil
}

// applyPatch changes r, and puts what became of it into both forms of the operand.
func applyPatch(patched *Operand, is *objects, r *resource.Resource, p v1alpha1.Patch) error {
	kind := string(p.Target.Kind)
	if r == nil {
		return fmt.Errorf("this gateway has no %s", kind)
	}
	if err := transform(r, p.Patch); err != nil {
		return err
	}
	if r.IsNilOrEmpty() {
		return fmt.Errorf("the patch deletes the %s", kind)
	}
	// A new object for each patch: the one before may be part of another Operand.
	target := reflect.ValueOf(patched).Elem().FieldByName(kind)
	target.Set(reflect.New(target.Type().Elem()))
	if err := decodeStrict(r, target.Interface()); err != nil {
		return fmt.Errorf("the patched %s: %w", kind, err)
	}
	return is.set(kind, target.Interface())
}

// transform applies the text of a patch to r: a strategic merge patch or a JSON patch. Kustomize panics on some patches that make
// no sense, annotations that are a list among them; that is no reason for the operator to.
func transform(r *resource.Resource, text string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the patch does not fit the %s: %v", r.GetKind(), p)
		}
	}()
	data, err := parse(text)
	if err != nil {
		return err
	}
	switch data[0] {
	case '{':
		patch, err := completeMergePatch(data, r)
		if err != nil {
			return err
		}
		return r.ApplySmPatch(patch)
	case '[':
		if err := checkOperations(data); err != nil {
			return err
		}
		return r.ApplyFilter(patchjson6902.Filter{Patch: string(data)})
	default:
		return errors.New("neither an object (a strategic merge patch) nor a list of operations (a JSON patch)")
	}
}

// parse turns the text of a patch, YAML or JSON, into JSON. Aliases are refused because a few bytes of them can stand for
// gigabytes; so are further documents, which would be ignored, and keys that occur twice.
func parse(text string) ([]byte, error) {
	decoder := yamlv3.NewDecoder(strings.NewReader(text))
	var document yamlv3.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("the patch is empty")
	case err != nil:
		return nil, err
	}
	if err := decoder.Decode(new(yamlv3.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("the patch has more than one YAML document; write one patch for each")
	}
	if n := findAlias(&document); n != nil {
		return nil, fmt.Errorf("line %d: YAML anchors and aliases are not supported; write the value out", n.Line)
	}
	data, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return nil, err
	}
	return bytes.TrimSpace(data), nil
}

// findAlias returns the first node that is or has an alias.
func findAlias(n *yamlv3.Node) *yamlv3.Node {
	if n.Kind == yamlv3.AliasNode || n.Anchor != "" {
		return n
	}
	for _, child := range n.Content {
		if found := findAlias(child); found != nil {
			return found
		}
	}
	return nil
}

// completeMergePatch adds what identifies the target, which Kustomize wants to see in a patch and a user need not write. What the
// user wrote must agree.
func completeMergePatch(data []byte, r *resource.Resource) (*resource.Resource, error) {
	patch := map[string]any{}
	if err := utiljson.Unmarshal(data, &patch); err != nil {
		return nil, err
	}
	metadata, ok := patch["metadata"].(map[string]any)
	if !ok {
		if patch["metadata"] != nil {
			return nil, errors.New("metadata is not an object")
		}
		metadata = map[string]any{}
		patch["metadata"] = metadata
	}
	for _, f := range []struct {
		path   string
		object map[string]any
		key    string
		want   string
	}{
		{"apiVersion", patch, "apiVersion", r.GetApiVersion()},
		{"kind", patch, "kind", r.GetKind()},
		{"metadata.name", metadata, "name", r.GetName()},
		{"metadata.namespace", metadata, "namespace", r.GetNamespace()},
	} {
		if have, found := f.object[f.key]; found && have != f.want {
			return nil, fmt.Errorf("%s is %v, and that of the target is %s", f.path, have, f.want)
		}
		f.object[f.key] = f.want
	}
	complete, err := json.Marshal(patch)
	if err != nil {
		return nil, err
	}
	return provider.NewDefaultDepProvider().GetResourceFactory().FromBytes(complete)
}

// operation is one operation of a JSON patch, RFC 6902.
type operation struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	From  *string         `json:"from"`
	Value json.RawMessage `json:"value"`
}

// checkOperations refuses operations of a JSON patch that are misspelt, and copy: each of a row of them can double the object.
func checkOperations(data []byte) error {
	var operations []operation
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&operations); err != nil {
		return fmt.Errorf("not a JSON patch: %w", err)
	}
	for i, o := range operations {
		switch o.Op {
		case "add", "replace", "test":
			if o.Value == nil {
				return fmt.Errorf("operation %d: %s needs a value", i, o.Op)
			}
		case "move":
			if o.From == nil {
				return fmt.Errorf("operation %d: move needs from", i)
			}
		case "remove":
		default:
			return fmt.Errorf("operation %d: op is %q; use add, remove, replace, move or test", i, o.Op)
		}
		if o.Path == "" {
			return fmt.Errorf("operation %d: there is no path, or that of the whole object", i)
		}
	}
	return nil
}
