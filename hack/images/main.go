// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command images builds OCI images from a COPY-only Dockerfile, without Docker
// or any daemon, and pushes them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/vmcp-dev/vmcp-operator/hack/images/dockerfile"
	"github.com/vmcp-dev/vmcp-operator/hack/images/image"
)

const usage = `images builds OCI images from a COPY-only Dockerfile, without Docker.

  images build -t NAME:TAG -o FILE [-f Dockerfile] [-target STAGE] [-context DIR]
               [-platform linux/amd64] [-build-arg NAME=VALUE]...
      writes an OCI archive that containerd and Docker load, and prints NAME:TAG@DIGEST
  images index -t NAME:TAG -o FILE -archive FILE...
      makes one OCI archive of those of an image for several platforms, and prints NAME:TAG@DIGEST
      and, for each platform, its digest and its size in a registry
  images push -archive FILE -to REGISTRY/NAME:TAG [-plain-http]
      uploads an archive and prints REGISTRY/NAME@DIGEST
`

// errUsage is a command line that cannot be run; the flag package has said why.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	command := ""
	if len(args) > 0 {
		command = args[0]
	}
	switch command {
	case "build":
		return build(args[1:], stdout, stderr)
	case "index":
		return index(args[1:], stdout, stderr)
	case "push":
		return push(ctx, args[1:], stdout, stderr)
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, usage)
		return nil
	default:
		fmt.Fprint(stderr, usage)
		return errUsage
	}
}

// newFlags returns a flag set whose errors end in the program's usage.
func newFlags(name string, stderr io.Writer) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprint(stderr, usage) }
	return f
}

// parse reads the flags and insists on the required ones.
func parse(f *flag.FlagSet, args []string, required ...string) error {
	if err := f.Parse(args); err != nil {
		return errUsage
	}
	if f.NArg() > 0 {
		fmt.Fprintf(f.Output(), "images %s: unexpected argument %q\n", f.Name(), f.Arg(0))
		return errUsage
	}
	for _, name := range required {
		if f.Lookup(name).Value.String() == "" {
			fmt.Fprintf(f.Output(), "images %s: -%s is required\n", f.Name(), name)
			return errUsage
		}
	}
	return nil
}

func build(args []string, stdout, stderr io.Writer) (err error) {
	f := newFlags("build", stderr)
	file := f.String("f", "Dockerfile", "the Dockerfile")
	contextDir := f.String("context", ".", "directory that COPY reads from")
	ref := f.String("t", "", "image NAME:TAG")
	out := f.String("o", "", "archive to write")
	platform := f.String("platform", "linux/"+runtime.GOARCH, "OS/ARCHITECTURE of the binaries")
	opts := dockerfile.Options{BuildArgs: map[string]string{}}
	f.StringVar(&opts.Target, "target", "", "stage to build")
	f.Func("build-arg", "NAME=VALUE for an ARG", func(s string) error {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return fmt.Errorf("%q is not NAME=VALUE", s)
		}
		opts.BuildArgs[key] = value
		return nil
	})
	if err := parse(f, args, "t", "o"); err != nil {
		return err
	}
	p, err := v1.ParsePlatform(*platform)
	if err != nil {
		return fmt.Errorf("platform %q: %w", *platform, err)
	}
	opts.Platform = *p
	spec, err := parseFile(*file, opts)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(*contextDir)
	if err != nil {
		return fmt.Errorf("open build context: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	img, err := image.Build(root, spec)
	if err != nil {
		return err
	}
	if err := image.WriteArchive(*out, *ref, img); err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return fmt.Errorf("compute digest: %w", err)
	}
	fmt.Fprintf(stdout, "%s@%s\n", *ref, digest)
	return nil
}

func index(args []string, stdout, stderr io.Writer) error {
	f := newFlags("index", stderr)
	ref := f.String("t", "", "image NAME:TAG")
	out := f.String("o", "", "archive to write")
	var archives []string
	f.Func("archive", "archive of the image for one platform, written by images build", func(s string) error {
		archives = append(archives, s)
		return nil
	})
	if err := parse(f, args, "t", "o"); err != nil {
		return err
	}
	if len(archives) == 0 {
		fmt.Fprintln(stderr, "images index: -archive is required")
		return errUsage
	}
	written, err := image.WriteIndexArchive(*out, *ref, archives)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s@%s\n", *ref, written.Digest)
	for _, p := range written.Platforms {
		fmt.Fprintf(stdout, "  %-12s %s %6.1f MB\n", p.Name, p.Digest, float64(p.Size)/1e6)
	}
	return nil
}

func parseFile(file string, opts dockerfile.Options) (spec image.Spec, err error) {
	in, err := os.Open(file)
	if err != nil {
		return spec, fmt.Errorf("read Dockerfile: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	return dockerfile.Parse(file, in, opts)
}

func push(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("push", stderr)
	archive := f.String("archive", "", "archive written by images build")
	to := f.String("to", "", "REGISTRY/NAME:TAG")
	var opts image.PushOptions
	f.BoolVar(&opts.PlainHTTP, "plain-http", false, "allow http to a registry that is not on this machine or a private network")
	if err := parse(f, args, "archive", "to"); err != nil {
		return err
	}
	ref, err := image.Push(ctx, *archive, *to, opts)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, ref)
	return nil
}
