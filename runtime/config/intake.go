// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"reflect"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
)

const (
	// fileInterval is the time between two looks at the mounted file. The kubelet takes up to a minute to bring a change.
	fileInterval = 5 * time.Second
	// maxRecent is how many contents of the ConfigMap are remembered. The kubelet skips those that it is late for.
	maxRecent = 64
)

// intake decides which of what the watch and the file bring is the configuration. The watch has the last word, for the file follows later;
// the file counts when it holds what the watch did not bring.
type intake struct {
	source  *watched
	publish func(Update)

	mu      sync.Mutex
	current *configv1alpha1.RuntimeConfiguration
	left    *configv1alpha1.RuntimeConfiguration // to the pods that are rolled for it
	refused string                               // that was told last
	file    string                               // as it was last
	fileErr string                               // that was logged last
	recent  []string                             // what the watch brought since the file was last ahead of it
}

func newIntake(w *watched, publish func(Update)) *intake {
	i := &intake{source: w, publish: publish, current: w.options.Initial}
	if data, err := os.ReadFile(w.options.File); err == nil {
		i.file = string(data)
	}
	return i
}

// watched takes what the watch shows, nil when there is no ConfigMap.
func (i *intake) watched(object *corev1.ConfigMap) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if object != nil {
		i.recent = append(i.recent, object.Data[configv1alpha1.FileName])
		i.recent = i.recent[max(0, len(i.recent)-maxRecent):]
	}
	c, err := next(i.current, object)
	i.take(c, err, "ConfigMap")
}

// readFile takes the file if it has changed.
func (i *intake) readFile() {
	i.mu.Lock()
	defer i.mu.Unlock()
	data, err := os.ReadFile(i.source.options.File)
	if err != nil {
		if err.Error() != i.fileErr {
			i.source.options.Logger.Warn("Could not read the mounted configuration; the one before stays", "error", err)
		}
		i.fileErr = err.Error()
		return
	}
	i.fileErr = ""
	content := string(data)
	if content == i.file {
		return
	}
	i.file = content
	if slices.Contains(i.recent, content) {
		return // the watch was faster
	}
	i.recent = nil // what it brought is older
	c, err := replacement(i.current, content)
	i.take(c, err, "file")
}

// take puts a configuration into force, or says why not.
func (i *intake) take(c *configv1alpha1.RuntimeConfiguration, err error, from string) {
	log := i.source.options.Logger.With("configMap", i.source.options.ConfigMap, "from", from)
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	changed := problem != i.refused
	i.refused = problem
	switch {
	case err != nil:
		if changed {
			log.Error("Refused a configuration; the one before stays", "error", err)
			i.publish(Update{Refused: err})
		}
		return
	case c != nil && !i.source.rolledFor(c):
		if !reflect.DeepEqual(c, i.left) {
			log.Info("Left a configuration to the pods that are rolled for it; the one before stays", "generation", c.Generation, "source", c.Source)
		}
		i.left, c = c, nil
	case c != nil:
		log.Info("Configuration changed", "generation", c.Generation)
		i.current = c
	}
	if c != nil || changed {
		i.publish(Update{Configuration: c})
	}
}
