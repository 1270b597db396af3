{{- /* docs/reference/api.md. Functions that begin with markdown are crd-ref-docs' own, the others are sprig's. */ -}}

{{- define "gvList" -}}
# API reference

Generated from the types in `api/` by `make docs`. `kubectl explain` says the same of the version that a cluster has.
{{ range . }}
## {{ .GroupVersionString }}

{{ .Doc | trim }}

Kinds:
{{ $version := . }}
{{- range .SortedKinds }}
- {{ $version.TypeForKind . | markdownRenderTypeLink }}
{{- end }}
{{ range .SortedTypes }}{{ template "type" . }}{{ end }}
{{- end }}
{{- end -}}

{{- define "type" -}}
{{- if markdownShouldRenderType . }}
### {{ .Name }}
{{ with .Doc | trim }}
{{ . }}
{{ end }}
{{- if .IsAlias }}
Underlying type: {{ markdownRenderTypeLink .UnderlyingType }}.
{{ end }}
{{- with .SortedReferences }}
Used by: {{ range $i, $r := . }}{{ if $i }}, {{ end }}{{ markdownRenderTypeLink $r }}{{ end }}.
{{ end }}
{{- with .Validation }}
Validation: {{ template "validation" . }}.
{{ end }}
{{- if .Members }}
| Field | Description | Default | Validation |
| --- | --- | --- | --- |
{{- with .GVK }}
| `apiVersion` _string_ | `{{ .Group }}/{{ .Version }}` | | |
| `kind` _string_ | `{{ .Kind }}` | | |
{{- end }}
{{- range .Members }}
| `{{ .Name }}` _{{ markdownRenderType .Type }}_ | {{ template "description" . }} | {{ with .Default }}`{{ . }}` {{ end }}| {{ with .Validation }}{{ template "validation" . }} {{ end }}|
{{- end }}
{{ end }}
{{- if .EnumValues }}
| Value | Description |
| --- | --- |
{{- range .EnumValues }}
| `{{ .Name }}` | {{ template "prose" .Doc }} |
{{- end }}
{{ end }}
{{- end }}
{{- end -}}

{{- define "description" -}}
{{ if eq .Name "metadata" }}the metadata of every object of Kubernetes{{ else }}{{ template "prose" .Doc }}{{ end }}
{{- end -}}

{{- /* A cell of a table is one line, and a bar would end it. */ -}}
{{- define "prose" -}}
{{ . | trim | replace "\n\n" "<br>" | replace "\n" " " | replace "|" "\\|" }}
{{- end -}}

{{- /* Markers without a value, like Optional, come with an empty one. */ -}}
{{- define "validation" -}}
{{ range $i, $v := . }}{{ if $i }}; {{ end }}{{ $v | replace ": {}" "" | replace "|" "\\|" }}{{ end }}
{{- end -}}
