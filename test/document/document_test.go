// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package document_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/test/document"
)

const begin, end = "<!-- make it: begin -->", "<!-- make it: end -->"

func TestReplaceKeepsWhatIsAround(t *testing.T) {
	file := filepath.Join(t.TempDir(), "doc.md")
	write(t, file, "before\n"+begin+"\nold\n"+end+"\nafter\n")
	for range 2 { // again, the same
		if err := document.Replace(file, "it", "new\n"); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if want := "before\n" + begin + "\nnew\n" + end + "\nafter\n"; string(got) != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}

func TestReplaceNeedsBothMarkers(t *testing.T) {
	for _, text := range []string{"", begin, end + begin, "<!-- make other: begin --><!-- make other: end -->"} {
		file := filepath.Join(t.TempDir(), "doc.md")
		write(t, file, text)
		if err := document.Replace(file, "it", "new\n"); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
