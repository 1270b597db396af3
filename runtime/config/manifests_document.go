// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// document is one YAML document of a file of manifests.
type document struct {
	root    *yaml.Node
	invalid bool // something in it is wrong, and was reported
}

func (d document) markInvalid() document {
	d.invalid = true
	return d
}

// line is the line of the field with this path, for example spec.env[0].name, or, if it is absent, of what it would be part
// of.
func (d document) line(path string) int {
	node, line := d.root, d.root.Line
	for _, step := range steps(path) {
		key, value := child(node, step)
		if value == nil {
			break
		}
		node, line = resolve(value), key.Line
	}
	return line
}

// scalar is the string at a path of keys, or "".
func (d document) scalar(keys ...string) string {
	node := d.root
	for _, key := range keys {
		_, value := child(node, key)
		if value == nil {
			return ""
		}
		node = resolve(value)
	}
	if node.Kind != yaml.ScalarNode {
		return ""
	}
	return node.Value
}

var step = regexp.MustCompile(`[^.\[\]]+|\[[^\]]*\]`)

// steps splits a path as field.Path prints it: a.b[3].c[key].
func steps(path string) []string {
	all := step.FindAllString(path, -1)
	for i := range all {
		all[i] = strings.Trim(all[i], "[]")
	}
	return all
}

// child is the member of a mapping or sequence under a key or an index, with the node that stands for its place.
func child(node *yaml.Node, step string) (key, value *yaml.Node) {
	switch node.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == step {
				return node.Content[i], node.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(node.Content) {
			return node.Content[i], node.Content[i]
		}
	}
	return nil, nil
}

func resolve(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

// maxNodes is how many nodes a document has at most, its aliases written out.
const maxNodes = 1 << 20

// endless returns the node by which a document contains itself, or by which it passes maxNodes; nil if there is none. Where an alias
// is to blame it is the outermost one.
func endless(root *yaml.Node) *yaml.Node {
	nodes, open := 0, map[*yaml.Node]bool{}
	var walk func(*yaml.Node) *yaml.Node
	walk = func(node *yaml.Node) *yaml.Node {
		if node.Kind == yaml.AliasNode {
			if open[node.Alias] || nodes > maxNodes {
				return node
			}
			open[node.Alias] = true
			defer delete(open, node.Alias)
			if walk(node.Alias) != nil {
				return node
			}
			return nil
		}
		if nodes++; nodes > maxNodes {
			return node
		}
		if node.Anchor != "" {
			open[node] = true
			defer delete(open, node)
		}
		for _, child := range node.Content {
			if found := walk(child); found != nil {
				return found
			}
		}
		return nil
	}
	return walk(root)
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" }

// describe says what a node is, for people.
func describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "an object"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "the alias *" + node.Value
	}
	switch node.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!bool":
		return "a boolean"
	case "!!int", "!!float":
		return "a number"
	default:
		return "a string"
	}
}

// mistake is an error and the line of the field that has it.
type mistake struct {
	line int
	text string
}

func located(file string, mistakes []mistake) ManifestErrors {
	errs := make(ManifestErrors, len(mistakes))
	for i, m := range mistakes {
		errs[i] = ManifestError{File: file, Line: m.line, Text: m.text}
	}
	return errs
}

// decode decodes the document into object, a pointer to one of the API's types. Unlike the decoders of the libraries it
// reports all unknown fields, repeated fields and values of the wrong type at once, each with its line.
func (d document) decode(object any) []mistake {
	// The library guards against aliases that multiply; the checker, which follows them, does not.
	if err := d.root.Decode(new(any)); err != nil && strings.Contains(err.Error(), "aliasing") {
		_, text := syntaxError(err)
		return []mistake{{d.root.Line, text}}
	}
	var c checker
	c.check(d.root, reflect.TypeOf(object), nil)
	if len(c.mistakes) > 0 {
		return c.mistakes
	}
	if err := decodeNode(d.root, object); err != nil {
		return []mistake{{d.root.Line, fmt.Sprintf("decoding the document: %v", err)}}
	}
	return nil
}

// checker compares YAML nodes with Go types as encoding/json would decode them.
type checker struct {
	mistakes []mistake
}

func (c *checker) fail(node *yaml.Node, path *field.Path, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if path != nil {
		text = path.String() + ": " + text
	}
	c.mistakes = append(c.mistakes, mistake{node.Line, text})
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

func (c *checker) check(node *yaml.Node, t reflect.Type, path *field.Path) {
	node = resolve(node)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if isNull(node) {
		return
	}
	if reflect.PointerTo(t).Implements(unmarshaler) {
		if err := decodeNode(node, reflect.New(t).Interface()); err != nil {
			c.fail(node, path, "%v", err)
		}
		return
	}
	if want, name := shape(t); node.Kind != want {
		c.fail(node, path, "must be %s, found %s", name, describe(node))
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		c.checkObject(node, path, func(key *yaml.Node, at *field.Path) (reflect.Type, bool) {
			known := jsonFields(t)
			i := slices.IndexFunc(known, func(f jsonField) bool { return f.name == key.Value })
			if i < 0 {
				c.fail(key, at, "unknown field; %s", suggest(key.Value, known))
				return nil, false
			}
			return known[i].typ, true
		})
	case reflect.Map:
		c.checkObject(node, path, func(*yaml.Node, *field.Path) (reflect.Type, bool) { return t.Elem(), true })
	case reflect.Slice:
		if isBytes(t) {
			c.checkBase64(node, path)
			return
		}
		for i, item := range node.Content {
			c.check(item, t.Elem(), path.Index(i))
		}
	case reflect.String:
		c.checkString(node, path)
	case reflect.Bool:
		if node.ShortTag() != "!!bool" {
			c.fail(node, path, "must be true or false, found %s", describe(node))
		}
	default:
		c.checkInteger(node, t, path)
	}
}

// shape is the kind of node that a type is decoded from, and its name for people.
func shape(t reflect.Type) (yaml.Kind, string) {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return yaml.MappingNode, "an object"
	case reflect.Slice:
		if isBytes(t) {
			return yaml.ScalarNode, "a string"
		}
		return yaml.SequenceNode, "a list"
	case reflect.String:
		return yaml.ScalarNode, "a string"
	case reflect.Bool:
		return yaml.ScalarNode, "a boolean"
	default: // the API's types have no floats (Kubernetes API conventions, primitive types)
		return yaml.ScalarNode, "an integer"
	}
}

// isBytes says that encoding/json decodes a type from a string in base64.
func isBytes(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

// checkBase64 quotes nothing of the value, which may be a secret.
func (c *checker) checkBase64(node *yaml.Node, path *field.Path) {
	mistakes := len(c.mistakes)
	c.checkString(node, path)
	if _, err := base64.StdEncoding.DecodeString(node.Value); err != nil && len(c.mistakes) == mistakes {
		c.fail(node, path, "must be in base64; put plain text into stringData")
	}
}

func (c *checker) checkInteger(node *yaml.Node, t reflect.Type, path *field.Path) {
	if node.ShortTag() != "!!int" {
		c.fail(node, path, "must be an integer, found %s", describe(node))
		return
	}
	if err := decodeNode(node, reflect.New(t).Interface()); err != nil {
		c.fail(node, path, "Invalid value: %s: out of range", node.Value)
	}
}

// checkObject checks the keys and values of a mapping; typeOf says what a key's value has to be, or reports the key.
func (c *checker) checkObject(node *yaml.Node, path *field.Path, typeOf func(*yaml.Node, *field.Path) (reflect.Type, bool)) {
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if key.ShortTag() == "!!merge" {
			c.checkMerge(value, path, typeOf)
			continue
		}
		at := path.Child(key.Value)
		if first, repeated := seen[key.Value]; repeated {
			c.fail(key, at, "repeated; it is at line %d already", first)
			continue
		}
		seen[key.Value] = key.Line
		if t, ok := typeOf(key, at); ok {
			c.check(value, t, at)
		}
	}
}

// checkMerge checks what the key << brings in: a mapping or a list of them.
func (c *checker) checkMerge(value *yaml.Node, path *field.Path, typeOf func(*yaml.Node, *field.Path) (reflect.Type, bool)) {
	value = resolve(value)
	merged := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode {
		merged = value.Content
	}
	for _, m := range merged {
		if m = resolve(m); m.Kind == yaml.MappingNode {
			c.checkObject(m, path, typeOf)
		}
	}
}

// boolsOfYAML11 are plain words that kubectl, which reads YAML 1.1, takes for booleans.
var boolsOfYAML11 = []string{"y", "n", "yes", "no", "on", "off"}

func (c *checker) checkString(node *yaml.Node, path *field.Path) {
	plain := node.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	switch tag := node.ShortTag(); {
	case tag == "!!timestamp": // for encoding/json as for kubectl a date is a string
		node.Tag = "!!str"
	case tag != "!!str":
		c.fail(node, path, "must be a string, found %s; put it into quotes", describe(node))
	case plain && slices.Contains(boolsOfYAML11, strings.ToLower(node.Value)):
		c.fail(node, path, "must be a string, and kubectl takes %s for a boolean; put it into quotes", node.Value)
	}
}

// decodeNode decodes a node by way of JSON, as the types of the API are made for.
func decodeNode(node *yaml.Node, into any) error {
	var value any
	if err := node.Decode(&value); err != nil {
		return err
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return json.Unmarshal(encoded, into)
}

type jsonField struct {
	name string
	typ  reflect.Type
}

// jsonFields are the fields of a struct as encoding/json sees them.
func jsonFields(t reflect.Type) []jsonField {
	var fields []jsonField
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case name == "" && f.Anonymous:
			fields = append(fields, jsonFields(f.Type)...)
		case name != "":
			fields = append(fields, jsonField{name, f.Type})
		}
	}
	return fields
}

// suggest names the fields that exist.
func suggest(unknown string, known []jsonField) string {
	names := make([]string, len(known))
	for i, f := range known {
		if strings.EqualFold(f.name, unknown) {
			return fmt.Sprintf("did you mean %s?", f.name)
		}
		names[i] = f.name
	}
	if len(names) == 0 {
		return "the object has no fields"
	}
	return "known here: " + strings.Join(names, ", ")
}

var (
	yamlErrorLine = regexp.MustCompile(`^(?:yaml: )?(?:unmarshal errors:\n\s*)?(?:line (\d+): )?`)
	// parserProblem tells errors of the YAML library's parser from those of its scanner: it counts the lines of the former
	// from 0.
	parserProblem = regexp.MustCompile(`^did not find expected (?:<document start>|node content|key|'-' indicator|',' or )`)
)

// syntaxError takes the line out of an error of the YAML library, which leaves the first line out.
func syntaxError(err error) (line int, text string) {
	m := yamlErrorLine.FindStringSubmatch(err.Error())
	text = strings.TrimPrefix(err.Error(), m[0])
	if m[1] == "" {
		return 1, text
	}
	line, _ = strconv.Atoi(m[1]) // digits
	if parserProblem.MatchString(text) {
		line++
	}
	return line, text
}
