// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dockerfile

import (
	"io/fs"
	"reflect"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/vmcp-dev/vmcp-operator/hack/images/image"
)

var arm64 = v1.Platform{OS: "linux", Architecture: "arm64"}

func parse(content string, opts Options) (image.Spec, error) {
	if opts.Platform.OS == "" {
		opts.Platform = arm64
	}
	return Parse("Dockerfile", strings.NewReader(content), opts)
}

func TestErrorsNameLineAndInstruction(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		opts    Options
		want    string
	}{
		"run":                   {content: "FROM scratch\n\nRUN true", want: "Dockerfile:3: RUN: not implemented"},
		"add":                   {content: "FROM scratch\nADD a /a", want: "Dockerfile:2: ADD: not implemented"},
		"volume":                {content: "FROM scratch\nVOLUME /a", want: "Dockerfile:2: VOLUME: not implemented"},
		"healthcheck":           {content: "FROM scratch\nHEALTHCHECK NONE", want: "Dockerfile:2: HEALTHCHECK: not implemented"},
		"unknown instruction":   {content: "FROM scratch\nCOPPY a /a", want: "Dockerfile:2: COPPY: unknown instruction"},
		"foreign base":          {content: "# comment\nFROM alpine:3", want: `Dockerfile:2: FROM: base "alpine:3" is neither scratch nor an earlier stage`},
		"platform":              {content: "FROM --platform=linux/amd64 scratch", want: "Dockerfile:1: FROM: --platform is not implemented"},
		"no from":               {content: "USER 1", want: "Dockerfile:1: USER: comes before the first FROM"},
		"empty":                 {content: "\n", want: "Dockerfile"},
		"copy from":             {content: "FROM scratch AS a\nFROM scratch\nCOPY --from=a /x /x", want: "Dockerfile:3: COPY: --from is not implemented"},
		"copy exclude":          {content: "FROM scratch\nCOPY --exclude=x . /", want: "Dockerfile:2: COPY: --exclude is not implemented"},
		"copy unknown flag":     {content: "FROM scratch\nCOPY --mode=1 a /a", want: "Dockerfile:2: COPY: unknown flag"},
		"copy without target":   {content: "FROM scratch\nCOPY a", want: "Dockerfile:2: COPY: COPY requires at least two arguments"},
		"copy two onto one":     {content: "FROM scratch\nCOPY a b /c", want: "Dockerfile:2: COPY: with more than one source"},
		"copy symbolic mode":    {content: "FROM scratch\nCOPY --chmod=u+x a /a", want: "Dockerfile:2: COPY: --chmod=u+x: want an octal"},
		"copy named owner":      {content: "FROM scratch\nCOPY --chown=app a /a", want: "Dockerfile:2: COPY: --chown=app: only numbers"},
		"here-document":         {content: "FROM scratch\nCOPY <<E /a\nx\nE", want: "Dockerfile:2: COPY: here-documents"},
		"unset variable":        {content: "FROM scratch\nCOPY bin/$WHICH /a", want: "Dockerfile:2: COPY: variable WHICH is not set"},
		"argument not in stage": {content: "FROM scratch\nCOPY bin/$TARGETARCH /a", want: "variable TARGETARCH is not set"},
		"shell entrypoint":      {content: "FROM scratch\nENTRYPOINT run me", want: "Dockerfile:2: ENTRYPOINT: shell form"},
		"shell cmd":             {content: "FROM scratch\nCMD run me", want: "Dockerfile:2: CMD: shell form"},
		"port range":            {content: "FROM scratch\nEXPOSE 80-90", want: `Dockerfile:2: EXPOSE: "80-90" is not PORT`},
		"port too large":        {content: "FROM scratch\nEXPOSE 65536", want: "Dockerfile:2: EXPOSE"},
		"error in other stage":  {content: "FROM scratch AS a\nUSER 1\nFROM scratch AS b\nRUN x", opts: Options{Target: "a"}, want: "Dockerfile:4: RUN"},
		"unknown target":        {content: "FROM scratch AS a\nFROM scratch AS b", opts: Options{Target: "c"}, want: `Dockerfile: no stage "c"; it has: a, b`},
		"undeclared build arg":  {content: "FROM scratch", opts: Options{BuildArgs: map[string]string{"X": "1"}}, want: "Dockerfile: build argument X is declared by no ARG"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(c.content, c.opts)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestStageBecomesSpec(t *testing.T) {
	const content = `ARG DIR=bin
FROM scratch AS base
LABEL org.opencontainers.image.licenses=Apache-2.0
ENV A=1 B="two words"
USER 65532:65532

FROM base AS runtime
ARG DIR
ARG TARGETOS TARGETARCH
ARG NAME=vmcp
WORKDIR /app
COPY --chmod=0755 ${DIR}/${NAME}-${TARGETOS}-${TARGETARCH} /vmcp
COPY --chown=1:2 --chmod=1777 tmp/ \
     data/
ENV A=3
EXPOSE 4483 4484/udp
ENTRYPOINT ["/vmcp"]
CMD ["serve"]

FROM scratch AS operator
COPY bin/operator /
`
	spec, err := parse(content, Options{Target: "runtime", BuildArgs: map[string]string{"DIR": "out"}})
	if err != nil {
		t.Fatal(err)
	}
	config := v1.Config{
		User:         "65532:65532",
		WorkingDir:   "/app",
		Env:          []string{defaultPath, "A=3", "B=two words"},
		Labels:       map[string]string{"org.opencontainers.image.licenses": "Apache-2.0"},
		ExposedPorts: map[string]struct{}{"4483/tcp": {}, "4484/udp": {}},
		Entrypoint:   []string{"/vmcp"},
		Cmd:          []string{"serve"},
	}
	if !reflect.DeepEqual(spec.Config, config) {
		t.Errorf("config:\n got %+v\nwant %+v", spec.Config, config)
	}
	if !reflect.DeepEqual(spec.Platform, arm64) {
		t.Errorf("platform: got %v, want %v", spec.Platform, arm64)
	}
	executable, sticky := fs.FileMode(0o755), 0o777|fs.ModeSticky
	layers := []image.Layer{
		{Origin: "Dockerfile:11", CreatedBy: "WORKDIR /app", Dest: "/app"},
		{
			Origin: "Dockerfile:12", CreatedBy: "COPY --chmod=0755 ${DIR}/${NAME}-${TARGETOS}-${TARGETARCH} /vmcp",
			Sources: []string{"out/vmcp-linux-arm64"}, Dest: "/vmcp", Mode: &executable,
		},
		{
			Origin: "Dockerfile:13", CreatedBy: "COPY --chown=1:2 --chmod=1777 tmp/      data/",
			Sources: []string{"tmp/"}, Dest: "/app/data/", UID: 1, GID: 2, Mode: &sticky,
		},
	}
	if !reflect.DeepEqual(spec.Layers, layers) {
		t.Errorf("layers:\n got %+v\nwant %+v", spec.Layers, layers)
	}
}

func TestLastStageIsTheDefaultTarget(t *testing.T) {
	spec, err := parse("FROM scratch AS a\nUSER 1\nFROM scratch AS b\nUSER 2", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if spec.Config.User != "2" {
		t.Errorf("got user %q, want that of the last stage", spec.Config.User)
	}
}

func TestStagesDoNotShareState(t *testing.T) {
	const content = "FROM scratch AS base\nENV A=1\nLABEL l=1\nFROM base AS child\nENV A=2\nLABEL l=2"
	spec, err := parse(content, Options{Target: "base"})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{defaultPath, "A=1"}; !reflect.DeepEqual(spec.Config.Env, want) {
		t.Errorf("env of base: got %q, want %q", spec.Config.Env, want)
	}
	if got := spec.Config.Labels["l"]; got != "1" {
		t.Errorf("label of base: got %q, want 1", got)
	}
}
