// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package assets holds the configuration files and manifests of a cluster.
package assets

import (
	"embed"
	"fmt"
	"strings"
	"text/template"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
)

//go:embed files
var files embed.FS

// constants are available to templates as functions of the same name.
var constants = template.FuncMap{
	"bridge":       func() string { return config.Bridge },
	"guardTable":   func() string { return config.GuardTable },
	"cgroupName":   func() string { return config.CgroupName },
	"networkName":  func() string { return config.NetworkName },
	"nodeName":     func() string { return config.NodeName },
	"pauseImage":   func() string { return config.PauseImage },
	"corednsImage": func() string { return config.CoreDNSImage },
	"olmImage":     func() string { return config.OLMImage },
	"opmImage":     func() string { return config.OPMImage },
}

var templates = template.Must(template.New("").Funcs(constants).Option("missingkey=error").ParseFS(files, "files/*"))

// File returns the named file as it is.
func File(name string) ([]byte, error) { return files.ReadFile("files/" + name) }

// Render fills in the named file.
func Render(name string, c config.Config) (string, error) {
	var out strings.Builder
	if err := templates.ExecuteTemplate(&out, name, c); err != nil {
		return "", fmt.Errorf("render %s: %w", name, err)
	}
	return out.String(), nil
}
