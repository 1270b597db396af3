// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/chart"
)

func files(content map[string]string) fstest.MapFS {
	all := fstest.MapFS{}
	for name, text := range content {
		all[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return all
}

func TestRenderIsWhatHelmMakes(t *testing.T) {
	templates := files(map[string]string{
		"values.yaml": "port: 50051\nimage: {ref: upstream, pullPolicy: Always}\nlimits: {memory: 80Mi, cpu: 10m}\ndebug: false\ntolerations: []\n",
		"templates/_helpers.tpl": `{{- define "name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 2 | trimSuffix "-" -}}
{{- end -}}`,
		"templates/b.yaml": "{{- if .Values.debug }}\nkind: Debug\n{{- end }}\n",
		"templates/a.yaml": `---
kind: Deployment
name: {{ include "name" . }}
version: {{ .Chart.Version | quote }}
image: {{ .Values.image.ref }} {{ .Values.image.pullPolicy }}
{{- if .Values.tolerations }}
tolerations: {{ toYaml .Values.tolerations }}
{{- end }}
limits: {{- toYaml .Values.limits | nindent 2 }}
nested:
{{ toYaml .Values.limits | indent 4 }}
port: {{ .Values.port }}
`,
		"templates/c.yaml": "kind: Service\n",
	})
	got, err := chart.Render(templates, "olm", "0.46.0", []byte("image: {ref: ours}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := `kind: Deployment
name: ol
version: "0.46.0"
image: ours Always
limits:
  cpu: 10m
  memory: 80Mi
nested:
    cpu: 10m
    memory: 80Mi
port: 50051
---
kind: Service
`
	if string(got) != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestWhatCannotBeRendered(t *testing.T) {
	for name, c := range map[string]struct {
		content map[string]string
		values  string
		want    string
	}{
		"no values":            {map[string]string{"templates/a.yaml": ""}, "", "values.yaml"},
		"a function of Helm's": {map[string]string{"values.yaml": "", "templates/a.yaml": "{{ lookup 1 }}"}, "", `function "lookup" not defined`},
		"include of nothing":   {map[string]string{"values.yaml": "", "templates/a.yaml": `{{ include "x" . }}`}, "", `no template "x"`},
		"values that are none": {map[string]string{"values.yaml": ""}, "a: {", "read values"},
	} {
		_, err := chart.Render(files(c.content), "olm", "1.0.0", []byte(c.values))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}

func TestCRDsAreTakenAsTheyAre(t *testing.T) {
	got, err := chart.CRDs(files(map[string]string{"crds/b.yaml": "kind: B\n", "crds/a.yaml": "---\nkind: {{A}}\n\n"}))
	if want := "---\nkind: {{A}}\n---\nkind: B\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if _, err := chart.CRDs(files(nil)); err == nil {
		t.Error("no error for a chart without definitions")
	}
}
