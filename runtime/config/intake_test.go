// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
)

// What the file and the watch bring may differ, and each may be the one that is behind.
func TestIntake(t *testing.T) {
	of := func(generation int, group string) string {
		return header + fmt.Sprintf("uid: ours\ngeneration: %d\ngroup: %s\n", generation, group)
	}
	const first, bad = "first", "{"
	watch := func(content string) func(*intake) {
		return func(i *intake) { i.watched(&corev1.ConfigMap{Data: file(content)}) }
	}
	mount := func(content string) func(*intake) {
		return func(i *intake) {
			if err := os.WriteFile(i.source.options.File, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			i.readFile()
		}
	}
	for name, c := range map[string]struct {
		steps []func(*intake)
		want  []string // groups that came into force, "refused", and "" when that is over
	}{
		"the file follows the watch": {
			steps: []func(*intake){watch(of(2, "b")), mount(of(2, "b")), watch(of(3, "c")), mount(of(3, "c"))},
			want:  []string{"b", "c"},
		},
		"the file is two changes behind": {
			steps: []func(*intake){watch(of(2, "b")), watch(of(3, "c")), mount(of(2, "b"))},
			want:  []string{"b", "c"},
		},
		"the file is behind, and the generation the same": {
			steps: []func(*intake){watch(of(1, "b")), watch(of(1, "c")), mount(of(1, "b")), mount(of(1, "c"))},
			want:  []string{"b", "c"},
		},
		"the watch brings nothing": {
			steps: []func(*intake){mount(of(2, "b")), mount(of(2, "c"))},
			want:  []string{"b", "c"},
		},
		"the watch stopped": {
			steps: []func(*intake){watch(of(1, first)), watch(of(1, "b")), mount(of(1, "c")), mount(of(1, "b"))},
			want:  []string{"b", "c", "b"},
		},
		"the watch follows the file": {
			steps: []func(*intake){mount(of(2, "b")), watch(of(1, first)), watch(of(2, "b")), watch(of(3, "c"))},
			want:  []string{"b", "c"},
		},
		"the file stays": {
			steps: []func(*intake){watch(of(1, "b")), mount(of(1, first))},
			want:  []string{"b"},
		},
		"a bad one by the watch is refused once, and over with the next": {
			steps: []func(*intake){watch(bad), watch(bad), mount(bad), watch(of(2, "b"))},
			want:  []string{"refused", "b"},
		},
		"a bad one by the file": {
			steps: []func(*intake){mount(bad), mount(of(2, "b"))},
			want:  []string{"refused", "b"},
		},
		"a bad one is taken back": {
			steps: []func(*intake){watch(bad), watch(of(1, first))},
			want:  []string{"refused", ""},
		},
		"a bad one that the watch saw mended reaches the file late": {
			steps: []func(*intake){watch(bad), watch(of(2, "b")), mount(bad), mount(of(2, "b"))},
			want:  []string{"refused", "b"},
		},
		"the ConfigMap goes and comes": {
			steps: []func(*intake){func(i *intake) { i.watched(nil) }, watch(of(2, "b"))},
			want:  []string{"b"},
		},
		"the file goes and comes": {
			steps: []func(*intake){func(i *intake) {
				if err := os.Remove(i.source.options.File); err != nil {
					t.Fatal(err)
				}
				i.readFile()
			}, mount(of(2, "b"))},
			want: []string{"b"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			initial, err := configv1alpha1.Parse([]byte(of(1, first)))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), configv1alpha1.FileName)
			if err := os.WriteFile(path, []byte(of(1, first)), 0o600); err != nil {
				t.Fatal(err)
			}
			var got []string
			i := newIntake(&watched{options: WatchOptions{Initial: initial, File: path, Logger: slog.New(slog.DiscardHandler)}}, func(u Update) {
				switch {
				case u.Refused != nil && u.Configuration != nil:
					t.Errorf("%+v is in force and refused", u)
				case u.Refused != nil:
					got = append(got, "refused")
				case u.Configuration != nil:
					got = append(got, u.Configuration.Group)
				default:
					got = append(got, "")
				}
			})
			for _, step := range c.steps {
				step(i)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}
