// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dockerfile reads the part of the Dockerfile language that needs no
// container to build: FROM scratch or an earlier stage, COPY from the build
// context, and the image's configuration. Everything else is refused with the
// line it is on, so that an image can never differ from what "docker build"
// would have made. Parsing and variable expansion are BuildKit's own.
package dockerfile

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/vmcp-dev/vmcp-operator/hack/images/image"
)

// defaultPath is the PATH that "docker build" gives images made from scratch.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Options are what the command line of a build decides.
type Options struct {
	// Target is the stage to build; empty for the last one.
	Target string
	// Platform fills the predefined arguments TARGETPLATFORM, TARGETOS, TARGETARCH and TARGETVARIANT.
	Platform v1.Platform
	// BuildArgs override the defaults of ARG instructions.
	BuildArgs map[string]string
}

// Parse reads a Dockerfile and returns the target stage. Errors start with
// "file:line: INSTRUCTION:". Every stage is checked, whichever is the target.
func Parse(file string, content io.Reader, opts Options) (image.Spec, error) {
	result, err := parser.Parse(content)
	if err != nil {
		return image.Spec{}, parseError(file, err)
	}
	b := newBuilder(file, result.EscapeToken, opts)
	for _, node := range result.AST.Children {
		if err := b.instruction(node); err != nil {
			return image.Spec{}, fmt.Errorf("%s:%d: %s: %w", file, node.StartLine, strings.ToUpper(node.Value), err)
		}
	}
	return b.target()
}

func parseError(file string, err error) error {
	var at *parser.LocationError
	if errors.As(err, &at) && len(at.Locations) > 0 && len(at.Locations[0]) > 0 {
		return fmt.Errorf("%s:%d: %w", file, at.Locations[0][0].Start.Line, err)
	}
	return fmt.Errorf("%s: %w", file, err)
}

// stage is one FROM and what follows it.
type stage struct {
	name string
	spec image.Spec
	// args are the values of ARG instructions seen so far.
	args map[string]string
}

type builder struct {
	file     string
	opts     Options
	lex      *shell.Lex
	global   map[string]string // ARG before the first FROM, and what is predefined
	declared map[string]bool   // every ARG of the file
	stages   []*stage
}

func newBuilder(file string, escape rune, opts Options) *builder {
	p := opts.Platform
	return &builder{
		file: file, opts: opts, lex: shell.NewLex(escape), declared: map[string]bool{},
		global: map[string]string{
			"TARGETPLATFORM": p.String(), "TARGETOS": p.OS, "TARGETARCH": p.Architecture, "TARGETVARIANT": p.Variant,
		},
	}
}

func (b *builder) instruction(node *parser.Node) error {
	parsed, err := instructions.ParseInstruction(node)
	if err != nil {
		return err
	}
	switch c := parsed.(type) {
	case *instructions.Stage:
		return b.from(c)
	case *instructions.ArgCommand:
		return b.arg(c)
	case instructions.Command:
		if len(b.stages) == 0 {
			return errors.New("comes before the first FROM")
		}
		s := b.stages[len(b.stages)-1]
		if expandable, ok := c.(instructions.SupportsSingleWordExpansion); ok {
			if err := expandable.Expand(b.expander(s.environment())); err != nil {
				return err
			}
		}
		return b.command(s, c, fmt.Sprintf("%s:%d", b.file, node.StartLine), node.Original)
	default:
		return errNotImplemented
	}
}

func (b *builder) from(c *instructions.Stage) error {
	base, err := b.expander(b.global)(c.BaseName)
	if err != nil {
		return err
	}
	if c.Platform != "" {
		return errors.New("--platform is not implemented: the platform is that of the build")
	}
	s := &stage{name: c.Name, args: map[string]string{}}
	b.stages = append(b.stages, s)
	if base == "scratch" {
		s.spec = image.Spec{Platform: b.opts.Platform, Config: v1.Config{Env: []string{defaultPath}}}
		return nil
	}
	for _, earlier := range b.stages[:len(b.stages)-1] {
		if earlier.name != "" && strings.EqualFold(earlier.name, base) {
			s.spec = earlier.spec.Clone()
			return nil
		}
	}
	return fmt.Errorf("base %q is neither scratch nor an earlier stage; nothing is pulled", base)
}

// arg gives each argument the value from the command line, else its default,
// else the one it has before the first FROM.
func (b *builder) arg(c *instructions.ArgCommand) error {
	scope, env := b.global, b.global
	if len(b.stages) > 0 {
		s := b.stages[len(b.stages)-1]
		scope, env = s.args, s.environment()
	}
	if err := c.Expand(b.expander(env)); err != nil {
		return err
	}
	for _, a := range c.Args {
		b.declared[a.Key] = true
		if value, ok := b.opts.BuildArgs[a.Key]; ok {
			scope[a.Key] = value
		} else if a.Value != nil {
			scope[a.Key] = *a.Value
		} else if value, ok := b.global[a.Key]; ok {
			scope[a.Key] = value
		}
	}
	return nil
}

// environment is what variables of a stage stand for; ENV wins over ARG.
func (s *stage) environment() map[string]string {
	env := maps.Clone(s.args)
	for _, e := range s.spec.Config.Env {
		key, value, _ := strings.Cut(e, "=")
		env[key] = value
	}
	return env
}

// expander replaces variables and, unlike Docker, refuses those without a value.
func (b *builder) expander(env map[string]string) instructions.SingleWordExpander {
	return func(word string) (string, error) {
		result, err := b.lex.ProcessWordWithMatches(word, getter(env))
		if err != nil {
			return "", err
		}
		if missing := slices.Sorted(maps.Keys(result.Unmatched)); len(missing) > 0 {
			return "", fmt.Errorf("variable %s is not set; declare it with ARG or ENV in this stage", strings.Join(missing, ", "))
		}
		return result.Result, nil
	}
}

// getter adapts a map to BuildKit's environment interface.
type getter map[string]string

func (g getter) Get(key string) (string, bool) { value, ok := g[key]; return value, ok }
func (g getter) Keys() []string                { return slices.Sorted(maps.Keys(g)) }

func (b *builder) target() (image.Spec, error) {
	for _, name := range slices.Sorted(maps.Keys(b.opts.BuildArgs)) {
		if !b.declared[name] {
			return image.Spec{}, fmt.Errorf("%s: build argument %s is declared by no ARG", b.file, name)
		}
	}
	if len(b.stages) == 0 {
		return image.Spec{}, fmt.Errorf("%s: no FROM: there is no stage to build", b.file)
	}
	if b.opts.Target == "" {
		return b.stages[len(b.stages)-1].spec, nil
	}
	var names []string
	for _, s := range b.stages {
		if strings.EqualFold(s.name, b.opts.Target) {
			return s.spec, nil
		}
		names = append(names, s.name)
	}
	return image.Spec{}, fmt.Errorf("%s: no stage %q; it has: %s", b.file, b.opts.Target, strings.Join(names, ", "))
}
